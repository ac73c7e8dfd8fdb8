"""Pipelines that generate text: their options, streams and output formats."""
