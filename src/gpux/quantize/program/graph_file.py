"""An ONNX file with weights that are read when they are needed and written as soon as they are made.

External data follows ONNX's ``TensorProto.external_data``: the keys ``location``, ``offset`` and ``length``.
"""

from __future__ import annotations

import mmap
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from gpux.system.worker_protocol import Refused

#: Where a tensor of the external file may begin; the page that memory is mapped by.
ALIGNMENT = 4096
#: Smaller tensors stay in the graph's own file, as ONNX's own tools have it.
EXTERNAL_FROM = 1024
#: Operators that a rewritten layer may leave behind without a reader.
_VIEWS = ("Identity", "Transpose")


@dataclass
class Scope:
    """A graph or subgraph: names are looked up here, then outside."""

    graph: GraphProto
    outside: Scope | None = None

    def __post_init__(self) -> None:
        self.tensors = {tensor.name: tensor for tensor in self.graph.initializer}
        self.producers = {name: node for node in self.graph.node for name in node.output if name}

    def find(self, name: str) -> tuple[Scope, TensorProto] | None:
        """The initializer of that name and where it lives; None for a computed value or an input."""
        if name in self.tensors:
            return self, self.tensors[name]
        if name in self.producers or self.outside is None:
            return None
        return self.outside.find(name)

    def producer(self, name: str) -> NodeProto | None:
        """The node that computes a value, here or outside."""
        if name in self.producers:
            return self.producers[name]
        return self.outside.producer(name) if self.outside is not None and name not in self.tensors else None


def replace_node(graph: GraphProto, node: NodeProto, successors: Sequence[NodeProto]) -> None:
    """Put nodes in the place of one, the order kept; values that they make are not added to any :class:`Scope`."""
    index = next(place for place, other in enumerate(graph.node) if other is node)
    graph.node.remove(node)
    for offset, successor in enumerate(successors):
        graph.node.insert(index + offset, successor)


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The bodies of If, Loop and Scan."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


class GraphFile:
    """An ONNX model whose large weights stay on disk.

    Args:
        path: the file to read.
        output: the file to write; external data goes to ``<output>_data`` beside it where ``path`` has some.

    Raises:
        Refused: ``corrupt_file`` when it is not an ONNX file.
    """

    def __init__(self, path: Path, output: Path) -> None:
        self._path, self._output = path, output
        self.model = _parse(path)
        self.root = Scope(self.model.graph)
        self.scopes = list(_scopes(self.root))
        self._external = any(_is_external(tensor) for scope in self.scopes for tensor in scope.graph.initializer)
        self._data = output.with_name(f"{output.name}_data")
        self._names: set[str] = set()
        self._written: set[str] = set()
        self._weights = output.with_name(f"{output.name}.weights")
        for left in (output, self._data, self._weights):  # of an earlier recipe, or of a process that was killed
            left.unlink(missing_ok=True)

    def array(self, tensor: TensorProto) -> NDArray[Any]:
        """The values of an initializer; external ones are mapped, not read."""
        if not _is_external(tensor):
            return np.asarray(numpy_helper.to_array(tensor))
        entries = {entry.key: entry.value for entry in tensor.external_data}
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        shape = tuple(tensor.dims)
        if 0 in shape:
            return np.empty(shape, dtype)
        return np.memmap(self._path.parent / entries["location"], dtype, "r", int(entries.get("offset", 0)), shape)

    def add(self, owner: Scope, name: str, array: NDArray[Any]) -> str:
        """Add an initializer to a graph; its name, which may get a number. A large one is written at once."""
        array = np.ascontiguousarray(array)
        tensor = TensorProto(name=self.unique(name), dims=array.shape)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        if self._external and array.nbytes >= EXTERNAL_FROM:
            self._write_external(tensor, array)
        else:
            tensor.raw_data = array.tobytes()
            if owner is self.root:
                tensor = self._write_inline(tensor)
        owner.graph.initializer.append(tensor)
        owner.tensors[tensor.name] = owner.graph.initializer[-1]
        return str(tensor.name)

    def unique(self, name: str) -> str:
        """The name, with a number where it is taken; what this hands out is new in every scope."""
        if not self._names:
            self._names = {value for scope in self.scopes for value in (*scope.tensors, *scope.producers)}
        candidate, number = name, 1
        while candidate in self._names:
            number += 1
            candidate = f"{name}_{number}"
        self._names.add(candidate)
        return candidate

    def require(self, domain: str, version: int) -> None:
        """Import an operator set, unless the model does already."""
        if all(entry.domain != domain for entry in self.model.opset_import):
            self.model.opset_import.append(helper.make_opsetid(domain, version))

    @property
    def opset(self) -> int:
        """The version of ONNX's own operators."""
        return next((int(entry.version) for entry in self.model.opset_import if entry.domain in ("", "ai.onnx")), 1)

    def save(self) -> None:
        """Write the model, with those initializers alone that something reads; external ones are carried over.

        Two serialized messages one after the other are one message with the fields of both (protobuf's encoding
        guide): the weights follow the graph one by one, and the whole is never in memory.
        """
        for scope in reversed(self.scopes):  # what is inside may be all that reads a value of the outside
            _drop_unused(scope)
        for scope in self.scopes:
            for tensor in scope.graph.initializer:
                if _is_external(tensor) and tensor.name not in self._written:
                    self._write_external(tensor, self.array(tensor))
        initializers = self.root.graph.initializer
        for index in reversed(range(len(initializers))):
            if not _is_external(initializers[index]):
                if initializers[index].name not in self._written:
                    self._write_inline(initializers[index])
                del initializers[index]
        with self._output.open("wb") as file:
            file.write(self.model.SerializeToString())
            if self._weights.exists():
                with self._weights.open("rb") as weights:
                    shutil.copyfileobj(weights, file, 1 << 24)
        self._weights.unlink(missing_ok=True)

    def _write_inline(self, tensor: TensorProto) -> TensorProto:
        """Append the tensor to the weights that will follow the graph; what stands for it until then."""
        with self._weights.open("ab") as file:
            file.write(ModelProto(graph=GraphProto(initializer=[tensor])).SerializeToString())
        self._written.add(tensor.name)
        return TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)

    def _write_external(self, tensor: TensorProto, array: NDArray[Any]) -> None:
        """Append the values to the external file and point the tensor there."""
        with self._data.open("ab") as file:
            file.write(b"\0" * (-file.tell() % ALIGNMENT))
            offset = file.tell()
            file.write(np.ascontiguousarray(array).data)
        del tensor.external_data[:]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", self._data.name), ("offset", offset), ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        self._written.add(tensor.name)


def _parse(path: Path) -> ModelProto:
    """The model without external data; the file is mapped, so that it is not in memory twice."""
    model = ModelProto()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            with memoryview(content) as view:
                model.ParseFromString(view)
        except DecodeError as exc:
            raise Refused("corrupt_file", f"{path.name} cannot be read: {exc}") from exc
    return model


def _scopes(scope: Scope) -> Iterator[Scope]:
    yield scope
    for node in scope.graph.node:
        for graph in subgraphs(node):
            yield from _scopes(Scope(graph, scope))


def _is_external(tensor: TensorProto) -> bool:
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def _drop_unused(scope: Scope) -> None:
    """Take away transposes and the like that nothing reads any more, then weights that nothing reads."""
    used = _read(scope.graph)
    for index in reversed(range(len(scope.graph.node))):
        node = scope.graph.node[index]
        if node.op_type in _VIEWS and used.isdisjoint(node.output):
            del scope.graph.node[index]
            used = _read(scope.graph)
    for index in reversed(range(len(scope.graph.initializer))):
        if scope.graph.initializer[index].name not in used:
            del scope.graph.initializer[index]


def _read(graph: GraphProto) -> set[str]:
    """Every name that a node of the graph, or of a graph within, takes as input or hands out."""
    found = {output.name for output in graph.output}
    for node in graph.node:
        found.update(node.input)
        for inner in subgraphs(node):
            found |= _read(inner)
    return found
