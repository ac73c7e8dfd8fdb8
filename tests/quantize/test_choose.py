"""The precision that ``auto`` stands for."""

from __future__ import annotations

from typing import Any

import pytest

from gpux.quantize.choose import choose_precision


@pytest.mark.parametrize(
    ("device", "kind", "memory", "expected"),
    [
        ("cuda:1", "other", None, "fp16"),
        ("cpu", "other", None, "fp32"),
        ("cpu", "decoder", None, "int8"),
        ("cpu", "decoder", 64 << 30, "int8"),
        ("cpu", "decoder", 8 << 30, "int4"),
        ("coreml", "decoder", None, "fp32"),
    ],
)
def test_auto(device: str, kind: Any, memory: int | None, expected: str) -> None:
    choice = choose_precision(device, kind, parameters=7_000_000_000, available_memory=memory)

    assert choice.precision == expected and choice.reason
