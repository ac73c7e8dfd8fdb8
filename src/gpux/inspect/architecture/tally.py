"""Sums of parameters, and the layers that they are made of. Sizes are counts of numbers, not bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tally:
    """Parameters of a part of a model."""

    total: int = 0
    idle: int = 0  #: of the total: experts that one token does not use
    tables: int = 0  #: of the total: looked-up tables (tokens, positions, token types) and the matrix of output words

    def __add__(self, other: Tally | int) -> Tally:
        if isinstance(other, int):
            return Tally(self.total + other, self.idle, self.tables)
        return Tally(self.total + other.total, self.idle + other.idle, self.tables + other.tables)


def table(rows: int, width: int) -> Tally:
    """A lookup table of ``rows`` vectors of ``width`` numbers."""
    return Tally(rows * width, 0, rows * width)


def linear(inputs: int, outputs: int, bias: bool = True) -> int:
    """A matrix of ``inputs x outputs``, and ``outputs`` biases."""
    return inputs * outputs + (outputs if bias else 0)


def norm(width: int, bias: bool = True) -> int:
    """A normalisation: a scale and, unless it is an RMS norm, a shift for each of ``width`` numbers."""
    return width * (2 if bias else 1)


def feed_forward(hidden: int, inner: int, *, gated: bool = False, bias: bool = True) -> int:
    """Up and down projection of a layer; ``gated`` has a second one up."""
    ups = 2 if gated else 1
    return ups * linear(hidden, inner, bias) + linear(inner, hidden, bias)


def transformer_layer(hidden: int, inner: int, *, bias: bool = True, cross: bool = False, key_bias: bool = True) -> int:
    """A classic layer: attention of four square matrices, two norms, a plain feed-forward.

    ``cross`` adds the attention to an encoder and its norm; ``key_bias`` False leaves the keys' biases out (Whisper).
    """
    attention = 4 * linear(hidden, hidden, bias) - (0 if key_bias else hidden) + norm(hidden)
    return attention * (2 if cross else 1) + feed_forward(hidden, inner, bias=bias) + norm(hidden)
