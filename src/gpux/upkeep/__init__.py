"""Keeping what is stored whole and current."""
