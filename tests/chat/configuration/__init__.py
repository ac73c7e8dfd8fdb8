"""The configuration of chat providers."""
