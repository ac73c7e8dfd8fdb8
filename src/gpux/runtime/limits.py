"""The largest input sizes for which a graph was proven, stored in the graph itself.

They are in the ONNX model's ``metadata_props`` under :data:`KEY`, as JSON: input -> axis -> largest size.
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
    """Append limits to an ONNX file without reading or moving its weights.

    Two concatenated protobuf messages are one message with the fields of both (protobuf's encoding guide).
    """
    import onnx  # slow to import, and not needed to read limits

    entry = onnx.StringStringEntryProto(key=KEY, value=json.dumps(limits))
    with graph.open("ab") as file:
        file.write(onnx.ModelProto(metadata_props=[entry]).SerializeToString())


def read_limits(metadata: Mapping[str, str]) -> Limits:
    """The limits in a model's metadata; empty if there are none, or if they cannot be parsed."""
    try:
        found = json.loads(metadata.get(KEY, "{}"))
        return {str(name): {int(axis): int(size) for axis, size in axes.items()} for name, axes in found.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def check_limits(inputs: Mapping[str, NDArray[Any]], limits: Limits) -> None:
    """Check that no input exceeds the limits, beyond which the graph's outputs differ from the original model's.

    Raises:
        InputError: an input is larger.
    """
    for name, axes in limits.items():
        for axis, largest in axes.items():
            actual = inputs[name].shape[axis] if name in inputs else 0
            if actual > largest:
                raise InputError(
                    f"input {name!r} has {actual} on axis {axis}, and the limit of the graph is {largest}",
                    hint="Shorten the input.",
                    tensor=name,
                    limit=largest,
                )
