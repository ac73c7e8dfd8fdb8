"""The tokenizers of a conversion, as the reference library builds them, and its answers to fixed texts."""
