"""A ``tokenizer.json`` for repositories that have only a slow tokenizer."""
