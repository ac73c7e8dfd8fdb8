"""Pipelines: a stored model with the pre- and post-processing of its task."""
