"""Export with Optimum."""
