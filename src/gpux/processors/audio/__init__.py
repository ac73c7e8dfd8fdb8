"""Feature extractors: sounds to the arrays that a graph reads."""
