"""Parameter counts of the layers that models consist of. Sizes are numbers of parameters, not bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Parameters:
    """The parameter count of a part of a model."""

    total: int = 0
    inactive: int = 0  #: of the total: routed experts that a token is not sent to
    embedding: int = 0  #: of the total: tables of tokens, positions and token types, and the output matrix

    def __add__(self, other: Parameters | int) -> Parameters:
        if isinstance(other, int):
            return Parameters(self.total + other, self.inactive, self.embedding)
        return Parameters(self.total + other.total, self.inactive + other.inactive, self.embedding + other.embedding)


def table(rows: int, width: int) -> Parameters:
    """An embedding table of shape ``[rows, width]``."""
    return Parameters(rows * width, 0, rows * width)


def linear(inputs: int, outputs: int, bias: bool = True) -> int:
    """A matrix of ``[inputs, outputs]`` and, unless ``bias`` is false, ``outputs`` biases."""
    return inputs * outputs + (outputs if bias else 0)


def norm(width: int, bias: bool = True) -> int:
    """A normalization layer: ``width`` scales and, unless it is an RMS norm, ``width`` shifts."""
    return width * (2 if bias else 1)


def feed_forward(hidden: int, inner: int, *, gated: bool = False, bias: bool = True) -> int:
    """The up and down projections of a layer; ``gated`` adds a gate projection."""
    ups = 2 if gated else 1
    return ups * linear(hidden, inner, bias) + linear(inner, hidden, bias)


def transformer_layer(hidden: int, inner: int, *, bias: bool = True, cross: bool = False, key_bias: bool = True) -> int:
    """A layer of the original transformer: attention with four square matrices, two norms, a feed-forward.

    ``cross`` adds cross-attention and its norm; ``key_bias=False`` omits the biases of the keys (Whisper).
    """
    attention = 4 * linear(hidden, hidden, bias) - (0 if key_bias else hidden) + norm(hidden)
    return attention * (2 if cross else 1) + feed_forward(hidden, inner, bias=bias) + norm(hidden)
