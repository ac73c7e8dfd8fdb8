"""Vectors as numbers, without numpy."""

from __future__ import annotations

import sys
from array import array

from gpux.server.workers.messages import Tensor


def rows(vectors: Tensor) -> list[list[float]]:
    """The numbers of each vector of a float32 tensor ``[texts, dimensions]``."""
    numbers = array("f", vectors.data)
    if sys.byteorder == "big":
        numbers.byteswap()
    count, size = vectors.shape
    return [numbers[row * size : (row + 1) * size].tolist() for row in range(count)]
