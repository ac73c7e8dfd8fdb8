"""A reference in, a runnable variant out: what is taken, by which way, made, proven and stored."""
