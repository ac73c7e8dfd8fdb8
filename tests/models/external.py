"""Moves weights of an ONNX graph into files of any name, as exporters and publishers do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper


def external_tensor(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    """Make a tensor refer to bytes of another file."""
    for name in ("raw_data", "float_data", "int64_data", "int32_data"):
        tensor.ClearField(name)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def move_weights(graph: Path, names: Sequence[str], *, constants: bool = False, folder: Path | None = None) -> None:
    """Move the large weights of a graph into the files ``names`` by turns, beside it or in ``folder``.

    With ``constants`` they become ``Constant`` nodes, whose attribute refers to the file.
    """
    model, files = onnx.load(graph), dict.fromkeys(names, b"")
    large = [tensor for tensor in model.graph.initializer if len(tensor.raw_data) > 256]
    for number, tensor in enumerate(large):
        name = names[number % len(names)]
        start, files[name] = len(files[name]), files[name] + tensor.raw_data
        external_tensor(tensor, name, start, len(files[name]) - start)
    if constants:
        nodes = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in large]
        kept = [tensor for tensor in model.graph.initializer if tensor not in large]
        others = list(model.graph.node)
        for field, found in ((model.graph.initializer, kept), (model.graph.node, nodes + others)):
            del field[:]
            field.extend(found)
    graph.write_bytes(model.SerializeToString())
    for name, data in files.items():
        path = (folder or graph.parent) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
