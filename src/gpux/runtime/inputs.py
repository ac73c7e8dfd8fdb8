"""Checks of input arrays before a run, so that an error names the tensor, its rank and its dtype."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpux.errors import InputError
from gpux.model.variant import TensorSpec

_DTYPES = {"float": "float32", "double": "float64", "string": "object"}


def check_inputs(
    inputs: Mapping[str, ArrayLike], specs: Sequence[TensorSpec], optional: Sequence[TensorSpec] = ()
) -> dict[str, NDArray[Any]]:
    """The inputs as contiguous arrays of the declared dtypes; inputs in ``optional`` may be omitted.

    Arrays are cast if no value is lost beyond float precision: between floats, from a narrower integer or bool to an
    integer, from a small integer to a float. A wider integer is cast if its values fit.

    Raises:
        InputError: a name is missing or unknown, or a rank, fixed dimension or dtype differs from the declaration.
    """
    _check_names(inputs, specs, optional)
    return {spec.name: _check(inputs[spec.name], spec) for spec in (*specs, *optional) if spec.name in inputs}


def _check_names(inputs: Mapping[str, ArrayLike], specs: Sequence[TensorSpec], optional: Sequence[TensorSpec]) -> None:
    declared = [spec.name for spec in specs]
    missing = [name for name in declared if name not in inputs]
    spare = [spec.name for spec in optional]
    unknown = [name for name in inputs if name not in declared and name not in spare]
    if missing or unknown:
        parts = [f"missing: {', '.join(missing)}"] if missing else []
        parts += [f"unknown: {', '.join(unknown)}"] if unknown else []
        names = ", ".join(declared) + (f", optional {', '.join(spare)}" if spare else "")
        raise InputError(f"the graph's inputs are {names}; {'; '.join(parts)}", missing=missing, unknown=unknown)


def _check(value: ArrayLike, spec: TensorSpec) -> NDArray[Any]:
    array = np.asarray(value)
    if len(array.shape) != len(spec.shape):
        raise _wrong(array, spec, f"has rank {array.ndim}, and the graph requires rank {len(spec.shape)}")
    for axis, (actual, declared) in enumerate(zip(array.shape, spec.shape, strict=True)):
        if isinstance(declared, int) and actual != declared:
            raise _wrong(array, spec, f"has {actual} on axis {axis}, and the graph requires {declared}")
    return np.ascontiguousarray(_cast(array, spec)) if array.ndim else _cast(array, spec)


def _cast(array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    if array.dtype.name == spec.dtype or spec.dtype == "object":
        return array
    target = _numpy_type(spec.dtype)
    if target is None or not _is_safe(array, target):
        raise _wrong(array, spec, f"is {array.dtype.name}, which cannot be cast to {spec.dtype} without loss")
    return array.astype(target)


def _is_safe(array: NDArray[Any], target: np.dtype[Any]) -> bool:
    source = array.dtype
    if np.issubdtype(source, np.floating):
        return np.issubdtype(target, np.floating)
    if np.can_cast(source, target, "safe"):
        return True
    if not (np.issubdtype(source, np.integer) and np.issubdtype(target, np.integer)):
        return False
    limits = np.iinfo(target)
    return array.size == 0 or (int(array.min()) >= limits.min and int(array.max()) <= limits.max)


def _numpy_type(name: str) -> np.dtype[Any] | None:
    """The dtype of that name; None for dtypes that numpy does not have (bfloat16, float8 …)."""
    try:
        return np.dtype(name)
    except TypeError:
        return None


def _wrong(array: NDArray[Any], spec: TensorSpec, what: str) -> InputError:
    shape = "[" + ", ".join("?" if dim is None else str(dim) for dim in spec.shape) + "]"
    return InputError(
        f"input {spec.name!r} {what}: it is {array.dtype.name} {list(array.shape)}, declared {spec.dtype} {shape}",
        tensor=spec.name,
        dtype=array.dtype.name,
        shape=list(array.shape),
    )


def spec_of(arg: Any) -> TensorSpec:
    """The spec of an input or output of an ``InferenceSession``: ``tensor(float)`` becomes ``float32``, and so on.

    Sequences and maps keep onnxruntime's name.
    """
    kind = str(arg.type)
    inner = kind.removeprefix("tensor(").removesuffix(")") if kind.startswith("tensor(") else kind
    return TensorSpec(arg.name, _DTYPES.get(inner, inner), tuple(arg.shape))
