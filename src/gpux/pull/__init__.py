"""Pulling models: the plan of a pull, its execution, and opening what is stored."""
