"""Reference cases: reading, writing, damaged files, and calls that build on earlier ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpux.errors import CorruptFileError, ProofError
from gpux.proof.cases import Call, ReferenceCase, read_case, with_outputs_of, write_case
from tests.proof.runners import X, write_one_call

Arrays = Mapping[str, Any]


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


def test_a_case_is_written_as_it_is_read(tmp_path: Path) -> None:
    first = Call("encoder", {"input_ids": np.ones((1, 2), np.int64)}, {"hidden": np.ones((1, 2))})
    masks = {"logits": np.ones((1, 2), bool)}
    second = Call("decoder", {"use": np.ones(1, bool)}, {"logits": np.zeros((1, 2))}, {"h": (0, "hidden")}, masks)
    case = ReferenceCase("two", (first, second), 12)

    write_case(case, tmp_path / "two.npz")
    found = read_case(tmp_path / "two.npz")

    assert [call.graph for call in found.calls] == ["encoder", "decoder"] and found.length == 12
    assert found.calls[1].carry == {"h": (0, "hidden")} and found.calls[1].masks["logits"].all()
    np.testing.assert_array_equal(found.calls[0].outputs["hidden"], first.outputs["hidden"])


def test_own_outputs_are_carried_to_later_calls(tmp_path: Path) -> None:
    first = Call("encoder", {"x": np.ones(1)}, {"h": np.zeros(1)})
    case = ReferenceCase("two", (first, Call("decoder", {}, {"y": np.zeros(1)}, {"h": (0, "h")})))

    def run(graph: str, inputs: Arrays) -> Arrays:
        return {"h": inputs["x"] + 1} if graph == "encoder" else {"y": inputs["h"] + 1}

    own = with_outputs_of(case, run)

    assert [float(next(iter(call.outputs.values()))[0]) for call in own.calls] == [2.0, 3.0]
    with pytest.raises(ProofError, match="no earlier call gave"):
        with_outputs_of(replace(case, calls=(case.calls[0], replace(case.calls[1], carry={"h": (0, "no")}))), run)
