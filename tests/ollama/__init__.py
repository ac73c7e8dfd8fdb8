"""A server of Ollama's API on loopback, with faults on demand: a real Ollama cannot be installed everywhere."""
