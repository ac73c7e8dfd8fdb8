"""Pipelines of sounds."""
