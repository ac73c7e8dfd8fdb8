"""Conversations that are answered by gpux, by Ollama or by any OpenAI-compatible server, behind one interface."""
