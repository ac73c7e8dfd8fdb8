"""The endpoints of chats beside the stream: GraphQL, health and configuration."""
