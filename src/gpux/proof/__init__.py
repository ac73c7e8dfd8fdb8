"""Whether a variant's answers equal the original's."""
