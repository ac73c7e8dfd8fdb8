"""The loops that decode: step by step, with guessed tokens, and with beams."""
