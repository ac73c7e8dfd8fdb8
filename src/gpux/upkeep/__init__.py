"""Verifying, repairing and updating what is stored."""
