"""Toolchains, and conversions in worker processes."""
