"""Reference cases: inputs, and the original model's outputs for them."""
