"""A head in 8 bits: each row rounded, and what rounding took from it.

Columns are brought to one size first, which the other factor makes up for: a head has columns that are a hundred times
as large as others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpux.runtime.generation.head import Head, Rows, lengths

Whole = NDArray[np.int8]  #: -127 to 127


@dataclass(frozen=True)
class Rounded:
    """What is known of a head's rows ``w`` beside the whole numbers ``q`` that they are rounded to, times a scale."""

    scales: Rows  #: [vocabulary]
    columns: Rows  #: [size], what the other factor is multiplied with
    lost: Rows  #: [vocabulary], lengths of ``w - scale * q``
    lengths: Rows  #: [vocabulary], no less than those of ``w`` and of ``scale * q``


def rounded(head: Head, stopped: Callable[[], bool] = lambda: False) -> tuple[Whole, Rounded] | None:
    """Round a head, which is read twice: ``q``, ``[size, vocabulary]``, and what goes with it.

    None where it is not finite, or ``stopped`` meanwhile.
    """
    words, size = head.shape
    columns = _sizes_of_columns(head, stopped)
    if columns is None:
        return None
    scales, lost, longest = (np.empty(words, np.float32) for _ in range(3))
    matrix = np.empty((size, words), np.int8)
    for start, piece in head.pieces():
        place = slice(start, start + len(piece))
        if stopped():
            return None
        piece /= columns
        longest[place] = lengths(piece)
        largest = np.abs(piece).max(axis=1)
        scales[place] = np.where(largest == 0, 1, largest / np.float32(127))
        whole = np.rint(piece / scales[place, None])
        matrix[:, place] = whole.T
        piece -= whole * scales[place, None]
        lost[place] = lengths(piece)
    return matrix, Rounded(scales, columns, lost, longest + lost)


def _sizes_of_columns(head: Head, stopped: Callable[[], bool]) -> Rows | None:
    """The root mean square of each column, ``[size]``, 1 for an empty one."""
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
    return columns
