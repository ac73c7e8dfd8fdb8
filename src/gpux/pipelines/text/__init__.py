"""Pipelines that read text."""
