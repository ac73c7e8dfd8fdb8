"""What a model is, as plain values: references, what is known at the source, variants, tasks."""
