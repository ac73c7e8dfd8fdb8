"""Maps resized as ``torch.nn.functional.interpolate(align_corners=False)`` resizes them on the CPU.

The formulas are those of ``aten/src/ATen/native/UpSample.h``: source coordinates and weights are float32, columns are
weighted before rows. Results differ from torch's by the rounding of a multiplication with an addition.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
#: Parameter of the cubic convolution, which torch and OpenCV use; Pillow's is -0.5.
_CUBIC = np.float32(-0.75)
#: Numbers of one band of rows in :func:`bands`, and bands whose columns are resized together.
_BAND, _BANDS = 500_000, 32


@dataclass(frozen=True)
class _Taps:
    """For each target coordinate, the source coordinates that it reads and their weights, both [taps, targets]."""

    places: NDArray[np.intp]
    weights: Floats

    def of(self, rows: slice) -> _Taps:
        return _Taps(self.places[:, rows], self.weights[:, rows])


def bilinear(maps: Floats, size: tuple[int, int]) -> Floats:
    """Maps [..., height, width] resized to [..., *size] with linear weights of two rows and two columns."""
    return _resized(maps, _linear(maps.shape[-2], size[0]), _linear(maps.shape[-1], size[1]))


def bicubic(maps: Floats, size: tuple[int, int]) -> Floats:
    """Maps [..., height, width] resized to [..., *size] with cubic weights of four rows and four columns."""
    return _resized(maps, _cubic(maps.shape[-2], size[0]), _cubic(maps.shape[-1], size[1]))


def nearest(maps: NDArray[np.generic], size: tuple[int, int]) -> NDArray[np.generic]:
    """Maps [..., height, width] of any dtype, resized to [..., *size] by repeating or dropping rows and columns."""
    rows, columns = (_nearest(source, target) for source, target in zip(maps.shape[-2:], size, strict=True))
    return maps[..., rows[:, None], columns]


def bands(maps: Floats, size: tuple[int, int]) -> Iterator[tuple[slice, Floats]]:
    """As :func:`bilinear`, in bands of rows that fit in a processor's cache, so that a large picture needs no memory.

    Yields:
        the rows of the target, and the maps [..., rows, width] there.
    """
    rows, columns = _linear(maps.shape[-2], size[0]), _linear(maps.shape[-1], size[1])
    step = max(1, _BAND // max(1, size[1] * int(np.prod(maps.shape[:-2]))))
    for top in range(0, size[0], step * _BANDS):
        block = rows.of(slice(top, min(size[0], top + step * _BANDS)))
        first = int(block.places.min())
        wide = _weighted(_columns(maps[..., first : int(block.places.max()) + 1, :], columns), list(columns.weights))
        for start in range(0, block.places.shape[1], step):
            band = block.of(slice(start, start + step))
            lines = [wide[..., places - first, :] for places in band.places]
            some = _weighted(lines, [weights[:, None] for weights in band.weights])
            yield slice(top + start, top + start + some.shape[-2]), some


def best_of(maps: Floats) -> NDArray[np.intp]:
    """The place of the highest of maps [maps, height, width] at each pixel; the first of equal ones.

    As ``argmax(axis=0)``, which copies the maps into another order first.
    """
    best, found = maps[0].copy(), np.zeros(maps.shape[1:], dtype=np.intp)
    higher = np.empty(maps.shape[1:], dtype=np.bool_)
    for place in range(1, len(maps)):
        np.greater(maps[place], best, out=higher)
        np.copyto(best, maps[place], where=higher)
        np.copyto(found, place, where=higher)
    return found


def _resized(maps: Floats, rows: _Taps, columns: _Taps) -> Floats:
    wide = _weighted(_columns(maps, columns), list(columns.weights))
    lines = [wide[..., places, :] for places in rows.places]
    return _weighted(lines, [weights[:, None] for weights in rows.weights])


def _columns(maps: Floats, columns: _Taps) -> list[Floats]:
    """Maps [..., height, targets] of the columns that each tap reads."""
    return [np.take(maps, places, axis=-1) for places in columns.places]


def _weighted(parts: list[Floats], weights: list[Floats]) -> Floats:
    """The sum of arrays, each times its weights; the arrays are overwritten."""
    total = parts[0]
    total *= weights[0]
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        part *= weight
        total += part
    return total


def _coordinates(source: int, target: int) -> Floats:
    """The source coordinate of each target coordinate: pixels are areas, and a coordinate is a centre."""
    scale = np.float64(np.float32(source) / np.float32(target))
    return (scale * (np.arange(target) + 0.5) - 0.5).astype(np.float32)  # torch's is a fused multiply and add


def _linear(source: int, target: int) -> _Taps:
    if source == target:
        every = np.arange(target, dtype=np.intp)
        return _Taps(every[None], np.ones((1, target), np.float32))
    found = np.maximum(_coordinates(source, target), np.float32(0))
    lower = np.minimum(np.floor(found).astype(np.intp), source - 1)
    share = np.clip(found - lower.astype(np.float32), 0, 1).astype(np.float32)
    return _Taps(np.stack([lower, np.minimum(lower + 1, source - 1)]), np.stack([np.float32(1) - share, share]))


def _cubic(source: int, target: int) -> _Taps:
    found = _coordinates(source, target)
    lower = np.floor(found)
    share = found - lower
    distances = (share + np.float32(1), share, np.float32(1) - share, np.float32(2) - share)
    weights = [(_far, _near, _near, _far)[tap](distance) for tap, distance in enumerate(distances)]
    places = [np.clip(lower.astype(np.intp) + offset, 0, source - 1) for offset in (-1, 0, 1, 2)]
    return _Taps(np.stack(places), np.stack(weights))


def _near(x: Floats) -> Floats:
    """Weight at a distance up to 1."""
    found: Floats = ((_CUBIC + 2) * x - (_CUBIC + 3)) * x * x + 1
    return found


def _far(x: Floats) -> Floats:
    """Weight at a distance from 1 to 2."""
    found: Floats = ((_CUBIC * x - 5 * _CUBIC) * x + 8 * _CUBIC) * x - 4 * _CUBIC
    return found


def _nearest(source: int, target: int) -> NDArray[np.intp]:
    scale = np.float32(source) / np.float32(target)
    return np.minimum((np.arange(target, dtype=np.float32) * scale).astype(np.intp), source - 1)
