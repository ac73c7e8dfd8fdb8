"""The built-in chat providers."""
