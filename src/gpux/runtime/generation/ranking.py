"""The likeliest of a large vocabulary without sorting it, and scores as probabilities.

``np.partition`` over 150,000 scores takes a millisecond where a processor has no vector instructions for it, a sum
that remembers its steps takes one anywhere: as much as a small model's step. Here the maxima of groups give a bound
that enough scores reach, and only what reaches it is looked at; sums are taken by blocks. The answers are the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]
Indices = NDArray[np.int64]
#: Up to this many values the plain way is as fast.
FEW = 4096
_BLOCK = 512


def reaching(values: Scores, count: int) -> Indices:
    """Indices, ascending, of at least ``count`` values: those above a bound, and every other value is below it.

    All of them where there are no more than ``count``. Values of -inf are left out where enough others remain.
    """
    if count >= values.size:
        return np.arange(values.size)
    bound = _bound(values, count)
    if bound == -np.inf:
        finite = np.flatnonzero(values > bound)
        return finite if finite.size >= count else np.arange(values.size)
    return np.flatnonzero(values >= bound)


def _bound(values: Scores, count: int) -> np.float32:
    """A value that at least ``count`` values reach, near to the one that exactly so many do."""
    groups = 4 * max(count, 64)
    if values.size < max(FEW, 4 * groups):
        return _largest(values, count)
    whole = values.size - values.size % groups
    maxima: Scores = values[:whole].reshape(-1, groups).max(axis=0)  # each is another value that was seen
    return _largest(maxima, count)


def _largest(values: Scores, count: int) -> np.float32:
    """The value of rank ``count``; 1 is the largest."""
    found: np.float32 = np.partition(values, values.size - count)[values.size - count]
    return found


def likeliest(values: Scores, count: int) -> Indices:
    """Indices of the ``count`` largest values, best first; of equals, the first comes first."""
    found = reaching(values, count)
    order = np.argsort(-values[found], kind="stable")
    return found[order[:count]]


def first_beyond(weights: Scores, target: float) -> int:
    """The first index up to which the weights, none below 0, sum to more than ``target``; the last one with a weight
    where rounding leaves them short of it.
    """
    begin = 0
    if weights.size > FEW:
        begins = np.arange(0, weights.size, _BLOCK)
        sums = np.cumsum(np.add.reduceat(weights, begins), dtype=np.float64)
        block = min(int(np.searchsorted(sums, target, side="right")), int(np.searchsorted(sums, sums[-1])))
        begin = block * _BLOCK
        target -= float(sums[block - 1]) if block else 0.0
        weights = weights[begin : begin + _BLOCK]
    sums = np.cumsum(weights, dtype=np.float64)
    place = min(int(np.searchsorted(sums, target, side="right")), int(np.searchsorted(sums, sums[-1])))
    return begin + place
