from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpux.errors import InputError
from gpux.model.variant import TensorSpec
from gpux.runtime.inputs import check_inputs

IDS = TensorSpec("ids", "int64", ("batch", "tokens"))
PIXELS = TensorSpec("pixels", "float32", ("batch", 3, None))
FLAG = TensorSpec("flag", "bool", ())


def checked(value: Any, spec: TensorSpec) -> np.ndarray[Any, Any]:
    return check_inputs({spec.name: value}, [spec])[spec.name]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64", "uint64", "bool"])
def test_integers_become_int64(dtype: str) -> None:
    array = checked(np.ones((2, 3), dtype), IDS)
    assert array.dtype == np.int64 and array.tolist() == [[1, 1, 1]] * 2


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "uint8", "int16", "bool"])
def test_floats_and_small_integers_become_float32(dtype: str) -> None:
    assert checked(np.zeros((1, 3, 4), dtype), PIXELS).dtype == np.float32


def test_lists_are_accepted() -> None:
    assert checked([[1, 2]], IDS).dtype == np.int64


def test_scalars_stay_scalars() -> None:
    assert checked(True, FLAG).shape == ()


def test_inputs_become_contiguous() -> None:
    assert checked(np.ones((3, 2), np.int64).T, IDS).flags.c_contiguous


@pytest.mark.parametrize(
    ("value", "spec", "message"),
    [
        (
            np.ones((1, 2)),
            IDS,
            r"'ids' is float64, which cannot be cast to int64.*float64 \[1, 2\].*int64 \[batch, tokens\]",
        ),
        (np.ones((1, 3, 1), np.int64), PIXELS, "int64, which cannot be cast to float32"),
        (np.full((1, 1), 2**63, np.uint64), IDS, "uint64, which cannot be cast to int64"),
        (np.array([["a"]]), IDS, "cannot be cast to int64"),
        (np.ones(3, np.int64), IDS, r"'ids' has rank 1, and the graph requires rank 2.*\[3\]"),
        (
            np.ones((1, 4, 2), np.float32),
            PIXELS,
            r"'pixels' has 4 on axis 1, and the graph requires 3.*\[batch, 3, \?\]",
        ),
    ],
)
def test_errors_name_tensor_rank_and_dtype(value: Any, spec: TensorSpec, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        checked(value, spec)
    assert caught.value.details["tensor"] == spec.name


def test_missing_and_unknown_names() -> None:
    with pytest.raises(InputError, match="inputs are ids, flag; missing: flag; unknown: flags"):
        check_inputs({"ids": [[1]], "flags": True}, [IDS, FLAG])


def test_optional_inputs_may_be_omitted() -> None:
    assert list(check_inputs({"ids": [[1]]}, [IDS], [FLAG])) == ["ids"]
    assert list(check_inputs({"flag": True, "ids": [[1]]}, [IDS], [FLAG])) == ["ids", "flag"]
    with pytest.raises(InputError, match="inputs are ids, optional flag; unknown: flags"):
        check_inputs({"ids": [[1]], "flags": True}, [IDS], [FLAG])
