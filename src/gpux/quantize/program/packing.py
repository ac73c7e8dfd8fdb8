"""The arithmetic of quantization, on numpy arrays.

Blocks are packed for onnxruntime's operator ``com.microsoft.MatMulNBits`` (ContribOperators.md): for each row and block
of K ``block * bits / 8`` bytes, the first value in the low bits; scales [N, blocks]; zero points packed alike along the
blocks, 2 ** (bits - 1) without zero points.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Bytes of float32 that are quantized at a time, so that large matrices need little memory.
SLICE = 32 << 20


@dataclass(frozen=True)
class Blocks:
    """A matrix of N rows and K columns, quantized in blocks of a row."""

    values: NDArray[np.uint8]  #: [N, blocks, block * bits / 8]
    scales: NDArray[np.float32]  #: [N, blocks]
    zero_points: NDArray[np.uint8] | None  #: [N, ceil(blocks * bits / 8)]; None: 2 ** (bits - 1)


def pack_blocks(
    matrix: NDArray[np.floating], *, transposed: bool, bits: int, block: int, symmetric: bool = True
) -> Blocks:
    """Quantize a matrix by blocks along K.

    Args:
        matrix: float, [N, K] if ``transposed``, else [K, N].
        transposed: whether ``matrix`` is stored transposed.
        bits: 4 or 8 per value.
        block: values that share a scale.
        symmetric: zero is the middle of the range; else each block has its own zero point.
    """
    rows = matrix if transposed else matrix.T
    count, width = rows.shape
    blocks = -(-width // block)
    values = np.empty((count, blocks, block * bits // 8), np.uint8)
    scales = np.empty((count, blocks), np.float32)
    zeros = None if symmetric else np.empty((count, blocks), np.uint8)
    for part in _parts(count, width * 4):
        wide = np.zeros((part.stop - part.start, blocks * block), np.float32)
        wide[:, :width] = rows[part]
        split = wide.reshape(-1, blocks, block)
        codes, scales[part], zero = _symmetric(split, bits) if symmetric else _asymmetric(split, bits)
        values[part] = _pack(codes, bits)
        if zeros is not None and zero is not None:
            zeros[part] = zero
    return Blocks(values, scales, None if zeros is None else _pack(_even(zeros, bits), bits))


def quantize_columns(
    matrix: NDArray[np.floating], *, transposed: bool, bits: int = 8
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Signed values [K, N] and one scale per column; zero is the middle of the range.

    Args:
        matrix: float, [N, K] if ``transposed``, else [K, N].
        transposed: whether ``matrix`` is stored transposed.
        bits: 8, or 7 for processors that add two products of 8 bits in 16 bits, which would saturate.
    """
    largest = 2 ** (bits - 1) - 1
    columns = matrix.T if transposed else matrix
    scales = np.maximum(_largest(columns), np.finfo(np.float32).tiny * 256) / np.float32(largest)
    values = np.empty(columns.shape, np.int8)
    for part in _parts(len(columns), columns.shape[1] * 4):
        values[part] = np.clip(np.rint(columns[part] / scales), -largest, largest)
    return values, scales.astype(np.float32)


def _largest(columns: NDArray[np.floating]) -> NDArray[np.float32]:
    """Largest magnitude of each column."""
    found = np.zeros(columns.shape[1], np.float32)
    for part in _parts(len(columns), columns.shape[1] * 4):
        np.maximum(found, np.abs(columns[part]).max(axis=0), out=found)
    return found


def _parts(rows: int, row_bytes: int) -> Iterator[slice]:
    step = max(1, SLICE // max(1, row_bytes))
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))


def _symmetric(split: NDArray[np.float32], bits: int) -> tuple[NDArray[np.uint8], NDArray[np.float32], None]:
    """The value of largest magnitude in a block becomes -2 ** (bits - 1), the end of the range that is further away."""
    middle = 2 ** (bits - 1)
    index = np.abs(split).argmax(axis=-1, keepdims=True)
    scales = np.take_along_axis(split, index, axis=-1)[..., 0] / np.float32(-middle)
    codes = np.rint(split * _inverse(scales)[..., None]) + middle
    return np.clip(codes, 0, 2 * middle - 1).astype(np.uint8), scales, None


def _asymmetric(
    split: NDArray[np.float32], bits: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
    top = 2**bits - 1
    low, high = np.minimum(split.min(axis=-1), 0), np.maximum(split.max(axis=-1), 0)
    scales = (high - low) / np.float32(top)
    zeros = np.clip(np.rint(-low * _inverse(scales)), 0, top)
    codes = np.clip(np.rint(split * _inverse(scales)[..., None]) + zeros[..., None], 0, top)
    return codes.astype(np.uint8), scales, zeros.astype(np.uint8)


def _inverse(scales: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.divide(1, scales, out=np.zeros_like(scales), where=np.abs(scales) > np.finfo(np.float32).tiny)


def _pack(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Two values of 4 bits per byte, the first in the low bits."""
    if bits == 8:
        return codes
    return np.asarray(codes[..., 0::2] | (codes[..., 1::2] << np.uint8(4)), np.uint8)


def _even(zeros: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Pad zero points of 4 bits to an even number per row, so that they can be packed."""
    return np.pad(zeros, ((0, 0), (0, 1))) if bits == 4 and zeros.shape[1] % 2 else zeros
