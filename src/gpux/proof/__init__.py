"""Whether a variant's outputs equal the original's: reference cases, their comparison, and their replay."""
