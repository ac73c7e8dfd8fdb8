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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.runtime.binding import Binding
from gpux.runtime.devices import CPU, candidates
from gpux.runtime.generation.head import Head, Rows
from gpux.runtime.onnx_runtime import load

log = logging.getLogger(__name__)

_LEVELS = 63  # of each of the two numbers, on each side of 0
_ZERO = _LEVELS + 1
_SECOND = 2 * _LEVELS  # how much finer the second number is
#: What float32 loses in all sums here, relative to the product of the lengths.
_ROUNDING = 1e-5
_PROBES = 4
#: A protobuf message is smaller than 2 GB.
_LARGEST = (1 << 31) - (64 << 20)


@dataclass(frozen=True)
class Rounded:
    """A head's rows in 8 bits, columns brought to one size."""

    matrix: NDArray[np.int8]  #: [size, vocabulary]
    scales: Rows  #: [vocabulary], of each row
    columns: Rows  #: [size], what ``x`` is multiplied with
    lost: Rows  #: [vocabulary], lengths of what rounding took from each row
    lengths: Rows  #: [vocabulary], of the rows as they were, at least


def rounded(head: Head) -> Rounded | None:
    """Round a head, which is read twice; None where it is not finite."""
    words, size = head.shape
    squares = np.zeros(size, np.float64)
    for _, piece in head.pieces():
        squares += np.einsum("ij,ij->j", piece, piece, dtype=np.float64)
    if not np.isfinite(squares).all():
        return None
    columns = np.sqrt(squares / words).astype(np.float32)
    columns[columns == 0] = 1
    scales, lost, lengths = (np.empty(words, np.float32) for _ in range(3))
    made = Rounded(np.empty((size, words), np.int8), scales, columns, lost, lengths)
    for start, piece in head.pieces():
        place = slice(start, start + len(piece))
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
        head: of which it is made; closed with it.
        made: its rows in 8 bits.
        threads: of one call.
    """

    def __init__(self, head: Head, made: Rounded, threads: int) -> None:
        self.head, self.columns, self.lost, self.lengths = head, made.columns, made.lost, made.lengths
        self.most_lost, self.longest = float(made.lost.max()), float(made.lengths.max())
        self.nbytes = made.matrix.nbytes + 3 * made.scales.nbytes
        choice = candidates("cpu", (CPU,))[0]
        self.session: Any = load(_graph(made), choice, threads, spinning=True)

    @classmethod
    def of(cls, head: Head, threads: int) -> RoundedHead | None:
        """Of a head; None where it is too large or not finite, or onnxruntime's products are not within the bounds."""
        words, size = head.shape
        made = rounded(head) if words * size <= _LARGEST else None
        if made is None:
            return None
        found = cls(head, made, threads)
        return found if _holds(found) else None

    def scorer(self) -> Scorer:
        """What one caller asks."""
        return Scorer(self)


class Scorer:
    """Finds the best tokens of rows. Not safe to use from two threads at once."""

    def __init__(self, rounded_head: RoundedHead) -> None:
        self._rounded = rounded_head
        self._rows = 0
        self._binding = Binding(rounded_head.session, Path("head"), "cpu")
        self._written: list[NDArray[np.int64]] = []

    def scores(self, hidden: Rows, best: int) -> Rows:
        """Scores of each row's ``best`` tokens and of any that tie with them, -inf of the others.

        Args:
            hidden: what the head reads, ``[rows, size]``.
            best: at least 1.

        Returns:
            ``[rows, vocabulary]``, a buffer that the next call overwrites. All scores of a row that the bounds say too
            little about, or that is not finite.
        """
        if len(hidden) != self._rows:
            self._prepare(len(hidden))
        for row, tokens in enumerate(self._written):
            self._out[row, tokens] = -np.inf
        known = self.approximate(hidden)
        self._written = []
        for row, of_row in enumerate(hidden):
            chosen = None if known is None else self._candidates(known[0][row], known[1][:, row], best)
            tokens = np.arange(self._out.shape[1]) if chosen is None else chosen
            head = self._rounded.head
            self._out[row, tokens] = head.scores(of_row[None])[0] if chosen is None else head.rows(chosen) @ of_row
            self._written.append(tokens)
        return self._out

    def close(self) -> None:
        """Let go of the memory; may be called twice."""
        self._binding.close()

    def approximate(self, hidden: Rows) -> tuple[Rows, Rows] | None:
        """Scores up to an error, each row in a unit of its own, ``[rows, vocabulary]``, a buffer; and ``[2, rows]``.

        The error of a token is what rounding took from its row times the first of these two numbers, and the length
        of its row times the second. None where a row is not finite.
        """
        if len(hidden) != self._rows:
            self._prepare(len(hidden))
        scaled = hidden * self._rounded.columns
        unit = np.abs(scaled).max(axis=1)
        if not np.isfinite(unit).all():
            return None
        unit[unit == 0] = 1
        unit /= np.float32(_LEVELS)
        scaled /= unit[:, None]
        first = np.rint(scaled)
        rest = scaled - first
        rest *= _SECOND
        second = np.rint(rest)
        np.add(first, _ZERO, out=self._planes[: self._rows], casting="unsafe")
        np.add(second, _ZERO, out=self._planes[self._rows :], casting="unsafe")
        self._binding.run()
        rest -= second
        length = _lengths(scaled)
        missed = _lengths(rest) / np.float32(_SECOND)
        coarse, fine = self._products[: self._rows], self._products[self._rows :]
        fine *= np.float32(1 / _SECOND)
        fine += coarse
        return fine, np.stack([length, missed + np.float32(_ROUNDING) * length])

    def _candidates(self, scores: Rows, errors: Rows, best: int) -> NDArray[np.int64] | None:
        """The tokens that may be among the best, ascending; None if these are too many to be looked at one by one."""
        rounded_head, (by_lost, by_length) = self._rounded, errors
        most = rounded_head.most_lost * by_lost + rounded_head.longest * by_length
        found = np.flatnonzero(scores >= _rank(scores, best) - 2 * most)
        if found.size > best:
            near = scores[found]
            error = rounded_head.lost[found] * by_lost + rounded_head.lengths[found] * by_length
            found = found[near + error >= _rank(near - error, best)]
        return found if found.size <= max(4 * best, scores.size // 64) else None

    def _prepare(self, rows: int) -> None:
        words, size = self._rounded.head.shape
        self._rows = rows
        self._planes = np.empty((2 * rows, size), np.uint8)
        self._products = np.empty((2 * rows, words), np.float32)
        self._out = np.full((rows, words), -np.inf, np.float32)
        self._written = []
        self._binding.feed("planes", self._planes)
        self._binding.fetch("products", self._products)


def _lengths(rows: Rows) -> Rows:
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", rows, rows)))


def _rank(scores: Rows, rank: int) -> np.float32:
    """The value of that rank, 1 the largest; the least where there are fewer."""
    if rank == 1:
        return np.float32(scores.max())
    place = max(0, scores.size - rank)
    return np.float32(np.partition(scores, place)[place])


def _holds(found: RoundedHead) -> bool:
    """Whether this onnxruntime's products are within the bounds, for inputs of every size and of outliers."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(_PROBES, found.head.shape[1])).astype(np.float32)
    hidden[1:] *= 10.0 ** np.arange(_PROBES - 1, dtype=np.float32)[:, None]
    hidden[-1] = np.sign(hidden[-1]) / found.columns  # every product as large as can be
    exact = found.head.scores(hidden)
    scorer = found.scorer()
    scores, (by_lost, by_length) = scorer.approximate(hidden) or (exact, np.zeros((2, _PROBES), np.float32))
    unit = np.abs(hidden * found.columns).max(axis=1, keepdims=True) / np.float32(_LEVELS)
    allowed = found.lost * by_lost[:, None] + found.lengths * by_length[:, None]
    held = bool((np.abs(exact / unit - scores) <= allowed).all())
    if not held:
        log.info("this onnxruntime multiplies 8-bit numbers otherwise than expected; all of the head is read")
    return held


def _graph(made: Rounded) -> bytes:
    """One product of 7-bit numbers with 8-bit weights, summed exactly, times the scale of each token."""
    from onnx import TensorProto, helper, numpy_helper

    size, words = made.matrix.shape
    node = helper.make_node(
        "MatMulIntegerToFloat",
        ["planes", "matrix", "one", "scales", "zero"],
        ["products"],
        domain="com.microsoft",
    )
    weights: dict[str, NDArray[Any]] = {
        "matrix": made.matrix,
        "one": np.array(1, np.float32),
        "scales": made.scales,
        "zero": np.array(_ZERO, np.uint8),
    }
    graph = helper.make_graph(
        [node],
        "head",
        [helper.make_tensor_value_info("planes", TensorProto.UINT8, ["rows", size])],
        [helper.make_tensor_value_info("products", TensorProto.FLOAT, ["rows", words])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return bytes(helper.make_model(graph, ir_version=8, opset_imports=opsets).SerializeToString())
