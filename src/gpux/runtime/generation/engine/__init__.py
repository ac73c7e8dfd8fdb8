"""Graphs, their key-value caches, and the states in which rows of tokens grow."""
