"""Chat templates and messages."""
