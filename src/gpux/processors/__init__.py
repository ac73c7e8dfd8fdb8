"""Images and sounds to the arrays that a graph reads, as the repository's own processor files say."""
