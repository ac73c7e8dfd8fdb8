"""Shared by the workers of all exporters."""
