"""The weights of exported graphs: inside the file, in one file beside it, or in one that several graphs share."""

from __future__ import annotations

import hashlib
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import external_data_helper, numpy_helper

from gpux.convert.worker.common.structure import read_structure

#: Elements of a weight below which a second, transposed copy stays in the graph.
SMALLEST = 1024


def external_file(graph: Path) -> Path:
    """The file of a graph's external data: ``model.onnx_data`` beside ``model.onnx``."""
    return graph.with_name(graph.name + "_data")


def gather_external(file: Path) -> None:
    """Join the external files that torch writes, one for each weight, into one; without such files nothing changes."""
    if not any(map(external_data_helper.uses_external_data, _tensors(read_structure(file)))):
        return
    model = onnx.load(file, load_external_data=False)
    target = external_file(file)
    with target.open("wb") as joined:
        for tensor in _tensors(model):
            if external_data_helper.uses_external_data(tensor):
                _append(tensor, file.parent, joined)
    onnx.save(model, file)


def _append(tensor: onnx.TensorProto, folder: Path, target: BinaryIO) -> None:
    """Move the content of one tensor from its own file to the end of ``target``."""
    source = folder / external_data_helper.ExternalDataInfo(tensor).location
    offset = target.tell()
    with source.open("rb") as stream:
        shutil.copyfileobj(stream, target, 16_000_000)
    source.unlink()
    external_data_helper.set_external_data(tensor, Path(target.name).name, offset, target.tell() - offset)


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that may be external: initializers, and constants of the main graph's nodes."""
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t


def share_weights(file: Path, sizes: set[int]) -> None:
    """Keep one copy of a weight that the graph has twice, once transposed, such as an embedding and its head.

    Args:
        file: the graph.
        sizes: numbers of elements of tied weights, see :func:`gpux.convert.worker.optimum.streaming.tied_sizes`.
    """
    if not sizes or not _have_counterparts(_matrices(read_structure(file), sizes)):
        return
    model = onnx.load(file)
    outside = external_file(file).is_file()
    found = _matrices(model, sizes)
    doubles = dict(_doubles(found))
    if not doubles:
        return
    for tensor in found:
        if tensor.name in doubles:
            model.graph.initializer.remove(tensor)
    for name, original in reversed(doubles.items()):
        model.graph.node.insert(0, transpose(original, name))
    save(model, file, outside=outside)


def transpose(original: str, name: str) -> onnx.NodeProto:
    """The node that computes the matrix ``name`` by transposing another one."""
    return onnx.helper.make_node("Transpose", [original], [name], f"transpose.{name}", perm=[1, 0])


def _matrices(model: onnx.ModelProto, sizes: set[int]) -> list[onnx.TensorProto]:
    return [
        tensor for tensor in model.graph.initializer if len(tensor.dims) == 2 and int(np.prod(tensor.dims)) in sizes
    ]


def _have_counterparts(tensors: list[onnx.TensorProto]) -> bool:
    """Whether two of these have transposed shapes; checked before large data is read."""
    shapes = [tuple(tensor.dims) for tensor in tensors]
    return any(shape[::-1] in shapes[:number] for number, shape in enumerate(shapes))


def _doubles(tensors: list[onnx.TensorProto]) -> Iterator[tuple[str, str]]:
    """Pairs of names: a weight, and another one that it is the transpose of."""
    taken: set[str] = set()
    for position, first in enumerate(tensors):
        for second in tensors[position + 1 :]:
            if {first.name, second.name} & taken or not _turned(_array(first), _array(second)):
                continue
            taken |= {first.name, second.name}
            # The weight with the larger first axis is an embedding, whose rows are looked up: that one is kept.
            wide, tall = sorted((first, second), key=lambda tensor: tensor.dims[0])
            yield wide.name, tall.name


def _array(tensor: onnx.TensorProto) -> NDArray[np.generic]:
    return numpy_helper.to_array(tensor)


def _turned(first: NDArray[np.generic], second: NDArray[np.generic]) -> bool:
    return first.shape == second.shape[::-1] and first.dtype == second.dtype and np.array_equal(first, second.T)


def save(model: onnx.ModelProto, file: Path, *, outside: bool) -> None:
    """Overwrite a graph; with ``outside``, its weights are in a file beside it."""
    external_file(file).unlink(missing_ok=True)
    if outside:
        where = external_file(file).name
        onnx.save(model, file, save_as_external_data=True, location=where, size_threshold=SMALLEST)
    else:
        onnx.save(model, file)


def rename(file: Path, name: str) -> Path:
    """Rename a graph and the file of its weights; returns the new path."""
    target = file.with_name(name)
    outside = external_file(file)
    if file == target:
        return target
    if outside.is_file():
        model = onnx.load(file, load_external_data=False)
        for tensor in filter(external_data_helper.uses_external_data, _tensors(model)):
            info = external_data_helper.ExternalDataInfo(tensor)
            external_data_helper.set_external_data(tensor, external_file(target).name, info.offset, info.length)
        onnx.save(model, target)
        outside.replace(external_file(target))
        file.unlink()
    else:
        file.replace(target)
    return target


SHARED = "shared.onnx_data"
#: Bytes below which a weight is not shared.
SHARED_MINIMUM = 1_000_000
#: Offsets are multiples of this, as onnxruntime maps pages of the file (ONNX: external data, ``offset``).
PAGE = 4096


def share_across(files: Iterable[Path]) -> None:
    """Move weights that two graphs of a folder both have, such as an encoder-decoder's embedding, into one shared file.

    Weights that are external already stay where they are.
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
    return [tensor for tensor in model.graph.initializer if len(tensor.raw_data) >= SHARED_MINIMUM]


def _digest(tensor: onnx.TensorProto) -> bytes:
    """A hash of dtype, shape and content."""
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
