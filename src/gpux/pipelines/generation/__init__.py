"""Pipelines that generate text."""
