"""Names of the inputs and outputs of exported graphs that hold a KV cache.

Exporters name the inputs ``past_key_values.0.key`` (optimum, transformers.js), ``past.0.key`` or, for recurrent layers,
``past_conv.0``, ``cache_params.…``; the matching outputs begin with ``present``. Standard library only: the programs
that run in a toolchain import this module too.
"""

from __future__ import annotations

from collections.abc import Iterable

#: An input of decoders that begins like a cache, and holds the positions of the new tokens.
CACHE_POSITION = "cache_position"
#: Begins the names of outputs with the weights of a decoder's cross-attention, followed by the layer's number.
ATTENTIONS = "cross_attentions."


def is_cache_input(name: str) -> bool:
    """Whether a graph's input holds what the graph computed for earlier tokens."""
    return name.startswith(("past", "cache")) and name != CACHE_POSITION


def is_cache(name: str) -> bool:
    """Whether an input or output of a graph is part of a cache."""
    return is_cache_input(name) or name.startswith("present")


def present_name(past: str, outputs: Iterable[str]) -> str | None:
    """The output that a cache input is fed from in the next call; None for every other input.

    ``past_key_values.0.key`` comes from ``present.0.key`` or ``present_key_values.0.key``, ``past.0.key`` from
    ``present.0.key``.
    """
    names = (past.replace("past_key_values", "present"), past.replace("past", "present"))
    found = set(outputs)
    return next((name for name in names if name != past and name in found), None)
