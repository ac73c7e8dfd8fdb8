"""Resizing and warping that transformers leaves to scipy or torch, in numpy.

Indices, weights and the order of the sums follow ``scipy.ndimage`` 1.17 (``gaussian_filter``, ``zoom``,
``affine_transform``) and ``torch.nn.functional.interpolate`` (``align_corners``, ``antialias``); sums of scipy are in
float64, those of torch in float32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def smooth_resize(values: Floats, height: int, width: int) -> Floats:
    """Values [height, width, channels] at another size: a Gaussian where it shrinks, then linear between neighbours.

    As ``skimage.transform.resize`` with ``anti_aliasing``, within the least and the greatest value.
    """
    found: NDArray[Any] = values
    for axis, size in enumerate((height, width)):
        sigma = max(0.0, (values.shape[axis] / size - 1) / 2)
        if sigma > 1e-15:
            found = _gaussian(found, sigma, axis)
    for axis, size in enumerate((height, width)):
        found = _zoom(found, size, axis)
    clipped: Floats = np.clip(found.astype(np.float32), values.min(), values.max())
    return clipped


def _gaussian(values: Floats, sigma: float, axis: int) -> Floats:
    """Filtered along an axis, mirrored at its ends without repeating them; weights up to four deviations."""
    radius = int(4.0 * sigma + 0.5)
    steps = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 / (sigma * sigma) * steps**2)
    weights /= weights.sum()
    length = values.shape[axis]
    places = _mirrored(np.arange(-radius, length + radius), length)
    lines = np.take(values, places, axis=axis)

    def shifted(offset: int) -> NDArray[Any]:
        index: list[Any] = [slice(None)] * values.ndim
        index[axis] = slice(radius + offset, radius + offset + length)
        line: NDArray[np.float64] = lines[tuple(index)].astype(np.float64)
        return line

    total = shifted(0) * weights[radius]
    for offset in range(-radius, 0):
        total += (shifted(offset) + shifted(-offset)) * weights[radius + offset]
    smooth: Floats = total.astype(np.float32)
    return smooth


def _mirrored(places: NDArray[Any], length: int) -> NDArray[Any]:
    if length == 1:
        return np.zeros_like(places)
    period = 2 * (length - 1)
    within = np.abs(places) % period
    mirrored: NDArray[Any] = np.where(within > length - 1, period - within, within)
    return mirrored


def _zoom(values: NDArray[Any], size: int, axis: int) -> NDArray[np.float64]:
    """Linear between the centres of pixels, mirrored at the ends."""
    length = values.shape[axis]
    where = _mirrored((np.arange(size) + 0.5) * (length / size) - 0.5, length)
    before = np.floor(where).astype(np.int64)
    part = where - before
    after = np.minimum(before + 1, length - 1)
    shape = [1] * values.ndim
    shape[axis] = size
    later = part.reshape(shape)
    first, second = (np.take(values, places, axis=axis).astype(np.float64) for places in (before, after))
    between: NDArray[np.float64] = first * (1 - later) + second * later
    return between


def affine_warp(pixels: NDArray[np.uint8], matrix: NDArray[np.float64], height: int, width: int) -> NDArray[np.uint8]:
    """Pixels [height, width, channels] moved by a matrix [2, 3] from rows and columns after to those before.

    Linear between pixels; zero where the place is outside the picture.
    """
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    tall, wide = pixels.shape[:2]
    y, x = (rows * part[0] + columns * part[1] + part[2] for part in matrix)
    inside = (y >= 0) & (y <= tall - 1) & (x >= 0) & (x <= wide - 1)
    y, x = np.where(inside, y, 0), np.where(inside, x, 0)
    top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    below, right = np.minimum(top + 1, tall - 1), np.minimum(left + 1, wide - 1)
    down, across = (y - top)[..., None], (x - left)[..., None]
    total = pixels[top, left] * (1 - down) * (1 - across)
    total += pixels[top, right] * (1 - down) * across
    total += pixels[below, left] * down * (1 - across)
    total += pixels[below, right] * down * across
    return np.where(inside[..., None], np.floor(total + 0.5), 0).clip(0, 255).astype(np.uint8)


def aligned_resize(values: Floats, height: int, width: int) -> Floats:
    """Values [channels, height, width] at another size, linear, the corners' centres kept (``align_corners``)."""
    rows, columns = _aligned(values.shape[1], height), _aligned(values.shape[2], width)

    def across(lines: Floats) -> Floats:
        before, after, part = columns
        found: Floats = lines[..., before] * (np.float32(1) - part) + lines[..., after] * part
        return found

    before, after, part = rows
    part = part[:, None]
    found: Floats = across(values[:, before]) * (np.float32(1) - part) + across(values[:, after]) * part
    return found


def _aligned(length: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    scale = np.float32(length - 1) / np.float32(size - 1) if size > 1 else np.float32(0)
    where = scale * np.arange(size, dtype=np.float32)
    before = np.minimum(where.astype(np.int64), length - 1)
    part = np.clip(where - before.astype(np.float32), 0, 1).astype(np.float32)
    return before, np.minimum(before + 1, length - 1), part


def antialiased_resize(values: Floats, height: int, width: int) -> Floats:
    """Values [channels, height, width] at another size, linear, averaged where it shrinks (``antialias``)."""
    return _antialiased(_antialiased(values, width, 2), height, 1)


def _antialiased(values: Floats, size: int, axis: int) -> Floats:
    length = values.shape[axis]
    if length == size:
        return values
    scale = np.float32(length) / np.float32(size)
    support = float(scale) if scale >= 1 else 1.0
    inverse = np.float32(1) / scale if scale >= 1 else np.float32(1)
    centers = scale * (np.arange(size, dtype=np.float32) + np.float32(0.5))
    low = np.maximum(((centers - np.float32(support)).astype(np.float64) + 0.5).astype(np.int64), 0)
    high = np.minimum(((centers + np.float32(support)).astype(np.float64) + 0.5).astype(np.int64), length)
    taps = np.arange(math.ceil(support) * 2 + 1)
    places = low[:, None] + taps
    offsets = (places.astype(np.float32) - centers[:, None]).astype(np.float64) + 0.5
    weights = np.maximum(np.float32(1) - np.abs((offsets * inverse).astype(np.float32)), np.float32(0))
    weights = np.where(places < high[:, None], weights, np.float32(0)).astype(np.float32)
    weights /= weights.sum(axis=1, keepdims=True, dtype=np.float32)
    places = np.minimum(places, length - 1)
    shape = [1] * values.ndim
    shape[axis] = size
    wide = weights.astype(np.float64)  # torch's own order of sums differs by machine; this is the middle of them
    total = np.take(values, places[:, 0], axis=axis) * wide[:, 0].reshape(shape)
    for tap in taps[1:]:
        total += np.take(values, places[:, tap], axis=axis) * wide[:, tap].reshape(shape)
    found: Floats = total.astype(np.float32)
    return found
