"""The time of each token, from the weights of the decoder's cross-attention, by dynamic time warping.

As ``_extract_token_timestamps`` of transformers' Whisper, which follows OpenAI's ``whisper/timing.py``: the weights of
the alignment heads are standardized over the tokens, smoothed over time by a median filter and averaged over the heads;
the cheapest monotonic path through the tokens and the frames gives each token the frame where it begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Seconds of one frame of Whisper's encoder.
FRAME_SECONDS = 0.02


def token_times(weights: Sequence[NDArray[Any]], frames: int, filter_width: int) -> NDArray[np.float64]:
    """When each token begins, in seconds, float64 [tokens].

    Args:
        weights: of each alignment head, float32 [tokens, frames]; one token at least.
        frames: of the sound, without what was padded. In a window that is nothing but padding it is negative, and so
            many frames at the end are left out twice, as transformers does.
        filter_width: of the median filter; odd.
    """
    stacked = np.stack(weights)[..., :frames][..., :frames]
    with np.errstate(divide="ignore", invalid="ignore"):  # a single token has no deviation
        standard = (stacked - stacked.mean(axis=1, keepdims=True)) / stacked.std(axis=1, keepdims=True)
    filtered = np.stack([median_filter(head, filter_width) for head in standard])
    tokens, places = warp(-filtered.mean(axis=0, dtype=np.float32).astype(np.float64))
    begins = np.diff(tokens, prepend=tokens[0] - 1).astype(bool)
    found: NDArray[np.float64] = places[begins] * FRAME_SECONDS
    return found


def median_filter(values: NDArray[Any], width: int) -> NDArray[Any]:
    """Medians of ``width`` neighbours along the last axis, whose ends are mirrored; few values are left unchanged."""
    half = width // 2
    if values.shape[-1] <= half:
        return values
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(half, half)], mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, width, axis=-1)
    found: NDArray[Any] = np.sort(windows, axis=-1)[..., half]
    return found


def warp(costs: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The cheapest path through a matrix from its first to its last element, of steps right, down, or both.

    The sums are those of a loop over rows and columns in float32; here all elements of an antidiagonal at once.

    Args:
        costs: float64 [rows, columns], one of each at least.

    Returns:
        Row and column of each element of the path.
    """
    rows, columns = costs.shape
    total = np.full((rows + 1, columns + 1), np.inf, np.float32)
    total[0, 0] = 0
    step = np.full((rows + 1, columns + 1), 1, np.int8)  # 0: both; 1: down; 2: right
    step[0, :], step[1:, 0] = 2, 1
    for diagonal in range(2, rows + columns + 1):
        row = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        column = diagonal - row
        both, down, right = total[row - 1, column - 1], total[row - 1, column], total[row, column - 1]
        chosen = np.where((both < down) & (both < right), 0, np.where((down < both) & (down < right), 1, 2))
        least = np.where(chosen == 0, both, np.where(chosen == 1, down, right))
        total[row, column] = costs[row - 1, column - 1] + least
        step[row, column] = chosen
    return _path(step)


def _path(step: NDArray[np.int8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    row, column = step.shape[0] - 1, step.shape[1] - 1
    path = []
    while row > 0 or column > 0:
        path.append((row - 1, column - 1))
        taken = step[row, column]
        row, column = row - (taken != 2), column - (taken != 1)
    found = np.array(path[::-1], np.int64)
    return found[:, 0], found[:, 1]
