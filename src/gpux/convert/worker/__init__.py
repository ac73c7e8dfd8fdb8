"""The programs that run in toolchains: they export a model and compute the original's answers."""
