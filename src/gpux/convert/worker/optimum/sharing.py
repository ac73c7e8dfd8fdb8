"""Weights that several graphs of one model have: written once, in a file that all of them name."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import onnx
from onnx import external_data_helper

SHARED = "shared.onnx_data"
#: Bytes below which a weight stays where it is.
SMALLEST = 1_000_000
#: Offsets are multiples of this, as onnxruntime maps pages of the file (ONNX: external data, ``offset``).
PAGE = 4096


def share_across(files: Iterable[Path]) -> None:
    """Move what two graphs in one folder both hold, such as an encoder-decoder's embedding, into one file beside them.

    Weights that already lie outside a graph's own file stay where they are.
    """
    graphs = {file: onnx.load(file, load_external_data=False) for file in files}
    holders: dict[bytes, list[onnx.TensorProto]] = defaultdict(list)
    for model in graphs.values():
        for digest, tensor in {_digest(tensor): tensor for tensor in _large(model)}.items():
            holders[digest].append(tensor)
    common = [tensors for tensors in holders.values() if len(tensors) > 1]
    if not common:
        return
    _move(common, next(iter(graphs)).with_name(SHARED))
    for file, model in graphs.items():
        onnx.save(model, file)


def _large(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    return [tensor for tensor in model.graph.initializer if len(tensor.raw_data) >= SMALLEST]


def _digest(tensor: onnx.TensorProto) -> bytes:
    """The same for two tensors only if dtype, shape and content are."""
    kind = f"{tensor.data_type}:{list(tensor.dims)}:".encode()
    return hashlib.sha256(kind + tensor.raw_data).digest()


def _move(common: list[list[onnx.TensorProto]], target: Path) -> None:
    with target.open("wb") as file:
        for tensors in common:
            file.write(bytes(-file.tell() % PAGE))
            offset, length = file.tell(), file.write(tensors[0].raw_data)
            for tensor in tensors:
                external_data_helper.set_external_data(tensor, SHARED, offset, length)
                tensor.ClearField("raw_data")
                tensor.data_location = onnx.TensorProto.EXTERNAL
