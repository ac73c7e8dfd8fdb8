"""Finds the best tokens of rows: those that may be it by their scores in 8 bits, scored by their own float32 rows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpux.runtime.binding import Binding
from gpux.runtime.generation.head import Rows

if TYPE_CHECKING:
    from gpux.runtime.generation.rounded_head import RoundedHead

_NEVER = np.float32(-np.inf)
_NOTHING: Rows = np.empty((0, 0), np.float32)
_Tokens = NDArray[np.int64] | slice


class Scorer:
    """The scores of the best tokens. Not safe to use from two threads at once: each has its own.

    Args:
        head: which is asked.
    """

    def __init__(self, head: RoundedHead) -> None:
        self._head = head
        self._binding = Binding(head.session, Path("head"), "cpu")
        self._written: list[_Tokens] = []  # of each row, the tokens that have a score
        self.hidden = self._out = self._near = self._unit = self._length = _NOTHING

    def prepare(self, rows: int) -> None:
        """Make place for so many rows, ``hidden`` ``[rows, size]``: what the head reads, filled by the caller."""
        words, size = self._head.head.shape
        self.hidden = np.zeros((rows, size), np.float32)
        self._out = np.full((rows, words), _NEVER)
        self._written = []
        self._near = np.empty((rows, words), np.float32)
        self._unit, self._length = np.empty((rows, 1), np.float32), np.empty((rows, 1), np.float32)
        self._binding.feed("hidden", self.hidden)
        for name, array in (("near", self._near), ("unit", self._unit), ("length", self._length)):
            self._binding.fetch(name, array)

    def scores(self, best: int) -> Rows:
        """Scores of each row's ``best`` tokens and of any that tie with them, -inf of most others.

        ``[rows, vocabulary]``, a buffer that the next call overwrites. All scores of a row that the bounds say too
        little about, or that is not finite.

        Raises:
            SessionError: onnxruntime failed.
            CorruptFileError, OSError: the head's file is shorter than it was, or cannot be read.
        """
        for row, tokens in enumerate(self._written):
            self._out[row, tokens] = _NEVER
        self._written = []
        self._binding.run()
        for row in range(len(self.hidden)):
            self._written.append(self._scored(row, best))
        return self._out

    def close(self) -> None:
        """Let go of the memory; may be called twice."""
        self._binding.close()
        self.hidden = self._out = self._near = self._unit = self._length = _NOTHING

    def _scored(self, row: int, best: int) -> _Tokens:
        """Write the scores of one row; which tokens have one."""
        head, hidden, near = self._head.head, self.hidden[row], self._near[row]
        tokens = self._candidates(near, float(self._length[row, 0]), best)
        self._head.count(near.size if tokens is None else tokens.size)
        if tokens is None:
            self._out[row] = head.scores(hidden[None])[0]
            return slice(None)
        # Row by row in one order, which a BLAS does not promise: equal rows have equal scores.
        self._out[row, tokens] = np.einsum("ij,j->i", head.rows(tokens.tolist()), hidden)
        return tokens

    def _candidates(self, near: Rows, length: float, best: int) -> NDArray[np.int64] | None:
        """The tokens that may be among the best, ascending; None if these are too many to be looked at one by one."""
        if not math.isfinite(length):
            return None
        # The first cut is coarse, and spares all but a few tokens the second.
        found = np.flatnonzero(near >= _rank(near, best) - np.float32(2 * self._head.largest_error(length)))
        if found.size > best:
            scores, error = near[found], self._head.error(length, found)
            found = found[scores + error >= _rank(scores - error, best)]
        return found if found.size <= max(4 * best, near.size // 64) else None


def _rank(scores: Rows, rank: int) -> np.float32:
    """The value of that rank, 1 the largest; the least where there are fewer."""
    if rank == 1:
        return np.float32(scores.max())
    place = max(0, scores.size - rank)
    return np.float32(np.partition(scores, place)[place])
