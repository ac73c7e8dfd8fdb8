"""A ``tokenizer.json`` for repositories that have only the files of a slow tokenizer."""
