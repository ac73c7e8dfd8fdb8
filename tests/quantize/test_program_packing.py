"""The quantizer's arithmetic: unpacked values differ from the original by half a step at most."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpux.quantize.program import packing


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("bits", "width"), [(4, 64), (4, 50), (8, 64)])
def test_blocks_unpack_within_half_a_step(bits: int, width: int, symmetric: bool) -> None:
    rows = np.random.default_rng(3).standard_normal((7, width)).astype(np.float32)
    rows[0] = 0

    blocks = packing.pack_blocks(rows, transposed=True, bits=bits, block=32, symmetric=symmetric)
    turned = packing.pack_blocks(
        np.ascontiguousarray(rows.T), transposed=False, bits=bits, block=32, symmetric=symmetric
    )

    codes = _unpacked(blocks.values, bits).astype(np.float32)
    zeros = 2 ** (bits - 1) if symmetric else _unpacked(blocks.zero_points, bits)[:, : codes.shape[1], None]
    back = ((codes - zeros) * blocks.scales[..., None]).reshape(7, -1)[:, :width]
    steps = np.repeat(np.abs(blocks.scales), 32, axis=1)[:, :width]
    assert (np.abs(back - rows) <= steps * (1.01 if symmetric else 0.51) + 1e-7).all()
    np.testing.assert_array_equal(blocks.values, turned.values)


def _unpacked(packed: Any, bits: int) -> Any:
    return packed if bits == 8 else np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)


def test_columns_unpack_within_half_a_step() -> None:
    matrix = np.random.default_rng(4).standard_normal((50, 9)).astype(np.float32) * np.arange(9)

    values, scales = packing.quantize_columns(matrix, transposed=False)
    seven, _ = packing.quantize_columns(matrix.T, transposed=True, bits=7)

    assert (np.abs(values * scales - matrix) <= scales * 0.51).all()
    assert np.abs(seven).max() == 63 and np.abs(values).max() == 127
