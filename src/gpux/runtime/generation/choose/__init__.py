"""How the next token of a row is chosen from the model's scores."""
