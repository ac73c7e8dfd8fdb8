"""``gpux bench serve``: a load generator for any server with OpenAI's API.

One process sends requests on an asyncio loop and records when each part of an answer arrives. :mod:`~.endpoint` speaks
HTTP, :mod:`~.prompts` writes what is sent, :mod:`~.load` decides when, :mod:`~.report` computes the figures.
"""
