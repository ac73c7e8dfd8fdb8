"""Text generation with decoders and encoder-decoders: options, engine, choice of tokens, decoding loops, text."""
