"""What the original model answers."""
