"""A head in 8 bits, with which a few tokens are told from all others for a quarter of the bytes.

Every token's row ``w`` is rounded to ``s q``, ``q`` in -127 to 127, and what the graph has made of a token, ``x``, to
``x'``, so that a score is known up to an error (Cauchy-Schwarz):

    |w x - s q x'|  <=  |w - s q| |x| + |s q| |x - x'|

The tokens that can be among the best by these bounds are scored by their own rows in float32. Columns are brought to
one size first, which ``x`` makes up for: a head has columns that are a hundred times as large as others. ``x'`` is the
sum of two numbers of 7 bits, so that no sum of two products leaves 16 bits, which processors without VNNI add in.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.runtime.binding import Binding
from gpux.runtime.devices import CPU, candidates
from gpux.runtime.generation.head import Head, Rows
from gpux.runtime.generation.rounded_graph import SECOND, graph_of
from gpux.runtime.onnx_runtime import load

log = logging.getLogger(__name__)

#: What float32 loses in all sums here, relative to the product of the lengths.
_ROUNDING = 1e-5
_PROBES = 4
#: A protobuf message is smaller than 2 GB.
_LARGEST = (1 << 31) - (64 << 20)
#: Share of the tokens that are looked at one by one as fast as the rest of the head is read, about.
_FEW = 0.01
_TRIAL = 256  # rows before which a few that cannot be told say nothing yet
_NEVER = np.float32(-np.inf)
_Tokens = NDArray[np.int64] | slice


@dataclass(frozen=True)
class Rounded:
    """A head's rows in 8 bits, columns brought to one size."""

    matrix: NDArray[np.int8]  #: [size, vocabulary]
    scales: Rows  #: [vocabulary], of each row
    columns: Rows  #: [size], what ``x`` is multiplied with
    lost: Rows  #: [vocabulary], lengths of what rounding took from each row
    lengths: Rows  #: [vocabulary], of the rows as they were, at least


def rounded(head: Head, stopped: Callable[[], bool] = lambda: False) -> Rounded | None:
    """Round a head, which is read twice; None where it is not finite, or ``stopped`` meanwhile."""
    words, size = head.shape
    squares = np.zeros(size, np.float64)
    for _, piece in head.pieces():
        if stopped():
            return None
        squares += np.einsum("ij,ij->j", piece, piece, dtype=np.float64)
    if not np.isfinite(squares).all():
        return None
    columns = np.sqrt(squares / words).astype(np.float32)
    columns[columns == 0] = 1
    scales, lost, lengths = (np.empty(words, np.float32) for _ in range(3))
    made = Rounded(np.empty((size, words), np.int8), scales, columns, lost, lengths)
    for start, piece in head.pieces():
        place = slice(start, start + len(piece))
        if stopped():
            return None
        piece /= columns
        lengths[place] = _lengths(piece)
        largest = np.abs(piece).max(axis=1)
        scales[place] = np.where(largest == 0, 1, largest / np.float32(127))
        whole = np.rint(piece / scales[place, None])
        made.matrix[:, place] = whole.T
        piece -= whole * scales[place, None]
        lost[place] = _lengths(piece)
    lengths += lost
    return made


class RoundedHead:
    """A head in 8 bits, ready to tell the best tokens. Safe to use from many threads: each opens a :class:`Scorer`.

    Args:
        head: of which it is made.
        made: its rows in 8 bits.
        threads: of one call.
    """

    def __init__(self, head: Head, made: Rounded, threads: int) -> None:
        self.head, self.lost, self.lengths = head, made.lost, made.lengths
        self.most_lost, self.longest = float(made.lost.max()), float(made.lengths.max())
        self.nbytes = made.matrix.nbytes + 3 * made.scales.nbytes
        choice = candidates("cpu", (CPU,))[0]
        self.session: Any = load(graph_of(made.matrix, made.scales, made.columns), choice, threads, spinning=True)
        #: of ``|x - x'|``, in units: half of the last place of the second number in each of its numbers
        self.missed = math.sqrt(head.shape[1]) / (2 * SECOND)
        self._asked = self._looked_at = 0

    @classmethod
    def of(cls, head: Head, threads: int, stopped: Callable[[], bool] = lambda: False) -> RoundedHead | None:
        """Of a head; None where it is too large or not finite, or onnxruntime's products are not within the bounds.

        None too where ``stopped``, which is asked again and again, says that nobody waits for it any more.
        """
        words, size = head.shape
        made = rounded(head, stopped) if words * size <= _LARGEST else None
        if made is None or stopped():
            return None
        found = cls(head, made, threads)
        return found if _holds(found, made.columns) else None

    def scorer(self) -> Scorer:
        """What one caller asks."""
        return Scorer(self)

    @property
    def looked_at(self) -> float:
        """Tokens that were looked at, a row."""
        return self._looked_at / max(self._asked, 1)

    @property
    def pays(self) -> bool:
        """Whether it leaves so few tokens to be looked at that it is faster than the whole head."""
        return self._looked_at <= max(self._asked, _TRIAL) * self.head.shape[0] * _FEW

    def count(self, tokens: int) -> None:
        """Of one row, so many tokens were looked at."""
        self._asked += 1
        self._looked_at += tokens

    def errors(self, length: float) -> tuple[float, float]:
        """What is lost of a row, and its length, times these two numbers is its score's error, in units."""
        return length, self.missed + _ROUNDING * length


class Scorer:
    """Finds the best tokens of rows. Not safe to use from two threads at once."""

    def __init__(self, rounded_head: RoundedHead) -> None:
        self._rounded = rounded_head
        self._binding = Binding(rounded_head.session, Path("head"), "cpu")
        self._written: list[_Tokens] = []  # of each row, the tokens that have a score
        self.hidden: Rows = np.empty((0, 0), np.float32)  #: what the head reads, ``[rows, size]``: filled by the caller

    def prepare(self, rows: int) -> None:
        """Make place for so many rows."""
        words, size = self._rounded.head.shape
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
        """
        for row, tokens in enumerate(self._written):
            self._out[row, tokens] = _NEVER
        near, _, length = self.approximate()
        self._written = [self._scored(row, near[row], float(length[row, 0]), best) for row in range(len(near))]
        return self._out

    def approximate(self) -> tuple[Rows, Rows, Rows]:
        """All scores within their errors, ``[rows, vocabulary]``; of each row its unit, and its length in it."""
        self._binding.run()
        return self._near, self._unit, self._length

    def _scored(self, row: int, near: Rows, length: float, best: int) -> _Tokens:
        """Write the scores of one row; which tokens have one."""
        head, hidden = self._rounded.head, self.hidden[row]
        tokens = self._candidates(near, length, best)
        self._rounded.count(near.size if tokens is None else tokens.size)
        if tokens is None:
            self._out[row] = head.scores(hidden[None])[0]
            return slice(None)
        # Row by row in one order, which a BLAS does not promise: equal rows have equal scores.
        self._out[row, tokens] = np.einsum("ij,j->i", head.rows(tokens.tolist()), hidden)
        return tokens

    def close(self) -> None:
        """Let go of the memory; may be called twice."""
        self._binding.close()

    def _candidates(self, near: Rows, length: float, best: int) -> NDArray[np.int64] | None:
        """The tokens that may be among the best, ascending; None if these are too many to be looked at one by one."""
        if not math.isfinite(length):
            return None
        whole = self._rounded
        by_lost, by_length = whole.errors(length)
        most = whole.most_lost * by_lost + whole.longest * by_length
        found = np.flatnonzero(near >= _rank(near, best) - np.float32(2 * most))
        if found.size > best:
            scores = near[found]
            error = whole.lost[found] * np.float32(by_lost) + whole.lengths[found] * np.float32(by_length)
            found = found[scores + error >= _rank(scores - error, best)]
        return found if found.size <= max(4 * best, near.size // 64) else None


def _lengths(rows: Rows) -> Rows:
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", rows, rows)))


def _rank(scores: Rows, rank: int) -> np.float32:
    """The value of that rank, 1 the largest; the least where there are fewer."""
    if rank == 1:
        return np.float32(scores.max())
    place = max(0, scores.size - rank)
    return np.float32(np.partition(scores, place)[place])


def _holds(found: RoundedHead, columns: Rows) -> bool:
    """Whether this onnxruntime's products are within the bounds, for inputs of every size and of outliers."""
    rng = np.random.default_rng(0)
    scorer = found.scorer()
    scorer.prepare(_PROBES)
    scorer.hidden[:] = rng.normal(size=scorer.hidden.shape)
    scorer.hidden[1:, 0] *= 10.0 ** np.arange(_PROBES - 1)
    scorer.hidden[-1] = np.sign(scorer.hidden[-1]) / columns  # every product as large as can be
    near, unit, length = scorer.approximate()
    error = np.abs(found.head.scores(scorer.hidden) / unit - near)
    allowed = [[found.lost, found.lengths] * np.array(found.errors(one))[:, None] for one in length[:, 0].tolist()]
    held = bool((error <= np.sum(allowed, axis=1)).all())
    if not held:
        log.info("this onnxruntime multiplies 8-bit numbers otherwise than expected; all of the head is read")
    scorer.close()
    return held
