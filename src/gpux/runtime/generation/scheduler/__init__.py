"""Continuous batching: the rows of many requests share the steps of one decoder, and join and leave at any step."""
