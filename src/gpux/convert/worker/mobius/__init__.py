"""Export with mobius."""
