"""Sizes up to which a graph is right, written into the graph itself, so that whoever runs it is held to them.

They stand in the ONNX model's ``metadata_props`` under :data:`KEY`: JSON, input -> axis -> largest size.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gpux.errors import InputError

KEY = "gpux.limits"

#: input -> axis -> largest size
Limits = Mapping[str, Mapping[int, int]]


def write_limits(graph: Path, limits: Mapping[str, Mapping[str, int]]) -> None:
    """Add limits to an ONNX file, whose weights are neither read nor moved.

    Two serialized messages one after the other are one message with the fields of both (protobuf's encoding guide),
    so the entry is appended.
    """
    import onnx

    entry = onnx.StringStringEntryProto(key=KEY, value=json.dumps(limits))
    with graph.open("ab") as file:
        file.write(onnx.ModelProto(metadata_props=[entry]).SerializeToString())


def read_limits(metadata: Mapping[str, str]) -> Limits:
    """The limits in a model's metadata; empty without any, or where they cannot be read."""
    try:
        found = json.loads(metadata.get(KEY, "{}"))
        return {str(name): {int(axis): int(size) for axis, size in axes.items()} for name, axes in found.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def check_limits(inputs: Mapping[str, NDArray[Any]], limits: Limits) -> None:
    """Return if no input is larger than the graph is right for.

    Raises:
        InputError: one is; beyond, the graph answers otherwise than the original.
    """
    for name, axes in limits.items():
        for axis, largest in axes.items():
            actual = inputs[name].shape[axis] if name in inputs else 0
            if actual > largest:
                raise InputError(
                    f"input {name!r} has {actual} on axis {axis}, and the graph is right up to {largest}",
                    hint="Shorten the input.",
                    tensor=name,
                    limit=largest,
                )
