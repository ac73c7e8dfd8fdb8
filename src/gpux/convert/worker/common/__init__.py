"""What the exporters share."""
