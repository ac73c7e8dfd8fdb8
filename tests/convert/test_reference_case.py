"""The files of reference cases: reading, writing, damaged files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gpux.convert.reference_case import Call, ReferenceCase, read_case, write_case
from gpux.errors import CorruptFileError
from tests.proof.runners import X, write_one_call


def test_read_case(tmp_path: Path) -> None:
    found = read_case(write_one_call(tmp_path, "short"))
    assert found.name == "short"
    (call,) = found.calls
    np.testing.assert_equal(dict(call.inputs), {"x": X})
    np.testing.assert_equal(dict(call.outputs), {"y": X * 2})


def damaged(good: bytes) -> dict[str, bytes | None]:
    flipped = bytearray(good)
    flipped[good.index(X.tobytes())] ^= 0xFF
    return {
        "gone": None,
        "empty": b"",
        "text": b"not an archive",
        "cut": good[: len(good) // 2],
        "flipped": bytes(flipped),
        "array": b"\x93NUMPY\x01\x00",
        "zeros": bytes(len(good)),
    }


@pytest.mark.parametrize("damage", ["gone", "empty", "text", "cut", "flipped", "array", "zeros"])
def test_a_damaged_case_is_corrupt(tmp_path: Path, damage: str) -> None:
    file = write_one_call(tmp_path, "short")
    content = damaged(file.read_bytes())[damage]
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    with pytest.raises(CorruptFileError, match="short"):
        read_case(file)


def test_a_single_array_is_not_a_case(tmp_path: Path) -> None:
    with (tmp_path / "short.npz").open("wb") as file:
        np.save(file, X)
    with pytest.raises(CorruptFileError, match="short"):
        read_case(tmp_path / "short.npz")


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "short.npz", **{"in:x": np.array([{}], dtype=object)})
    with pytest.raises(CorruptFileError, match="short"):
        read_case(tmp_path / "short.npz")


@pytest.mark.parametrize("compressed", [False, True])
def test_a_case_is_read_as_it_was_written(tmp_path: Path, compressed: bool) -> None:
    first = Call("encoder", {"input_ids": np.ones((1, 2), np.int64)}, {"hidden": np.ones((1, 2))})
    masks = {"logits": np.ones((1, 2), bool)}
    second = Call("decoder", {"use": np.ones(1, bool)}, {"logits": np.zeros((1, 2))}, {"h": (0, "hidden")}, masks)
    case = ReferenceCase("two", (first, second), 12)

    write_case(case, tmp_path / "new" / "two.npz", compressed=compressed)
    found = read_case(tmp_path / "new" / "two.npz")

    assert [call.graph for call in found.calls] == ["encoder", "decoder"] and found.length == 12
    assert found.calls[1].carry == {"h": (0, "hidden")} and found.calls[1].masks["logits"].all()
    np.testing.assert_array_equal(found.calls[0].outputs["hidden"], first.outputs["hidden"])
