"""Generation of tokens: what may come next, which of it is taken, when to stop, and the cache in between."""
