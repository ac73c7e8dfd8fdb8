"""An ONNX file whose weights are read one at a time, and written as soon as they are converted.

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

#: Tensors of the external file start at multiples of the page size, so that they can be memory-mapped.
ALIGNMENT = 4096
#: Smaller tensors stay in the graph's own file, as with ONNX's own tools.
EXTERNAL_FROM = 1024
#: Operators before a weight that nothing reads any more once its layer is rewritten.
_VIEWS = ("Identity", "Transpose")


@dataclass
class Scope:
    """A graph or subgraph; names are looked up here, then in the enclosing graph."""

    graph: GraphProto
    outside: Scope | None = None

    def __post_init__(self) -> None:
        self.tensors: dict[str, TensorProto] = {tensor.name: tensor for tensor in self.graph.initializer}
        self.producers: dict[str, NodeProto] = {name: node for node in self.graph.node for name in node.output if name}

    def find(self, name: str) -> tuple[Scope, TensorProto] | None:
        """The initializer of that name and its scope; None for a computed value or an input."""
        if name in self.tensors:
            return self, self.tensors[name]
        if name in self.producers or self.outside is None:
            return None
        return self.outside.find(name)

    def producer(self, name: str) -> NodeProto | None:
        """The node that computes a value, here or in an enclosing graph."""
        if name in self.producers:
            return self.producers[name]
        return self.outside.producer(name) if self.outside is not None and name not in self.tensors else None


def replace_node(graph: GraphProto, node: NodeProto, successors: Sequence[NodeProto]) -> None:
    """Replace one node with others at the same position; a :class:`Scope` does not get their outputs."""
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
        output: the file to write; its external data is ``<output>_data``, written if ``path`` has external data.

    Raises:
        Refused: ``corrupt_file`` if the file is not an ONNX file.
    """

    def __init__(self, path: Path, output: Path) -> None:
        self._path, self._output = path, output
        self.model = _parse(path)
        self.root = Scope(self.model.graph)
        self.scopes = list(_scopes(self.root))
        #: names of the files with the external data of ``path``, relative to its folder
        self.data_files = {
            _external_data(tensor)["location"]
            for scope in self.scopes
            for tensor in scope.graph.initializer
            if _is_external(tensor)
        }
        self._external = bool(self.data_files)
        self._data = output.with_name(f"{output.name}_data")
        self._names: set[str] = set()
        self._written: set[str] = set()
        self._weights = output.with_name(f"{output.name}.weights")
        for stale in (output, self._data, self._weights):  # of an earlier method, or of a process that was killed
            stale.unlink(missing_ok=True)

    def array(self, tensor: TensorProto) -> NDArray[Any]:
        """The values of an initializer; external data is memory-mapped."""
        if not _is_external(tensor):
            return np.asarray(numpy_helper.to_array(tensor))
        entries = _external_data(tensor)
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        shape = tuple(tensor.dims)
        if 0 in shape:
            return np.empty(shape, dtype)
        return np.memmap(self._path.parent / entries["location"], dtype, "r", int(entries.get("offset", 0)), shape)

    def add(self, owner: Scope, name: str, array: NDArray[Any]) -> str:
        """Add an initializer to a graph, a large one written at once; returns its name, made unique with a number."""
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
        """The name, with a number where the name is in use; the result is unique in all scopes."""
        if not self._names:
            self._names = {value for scope in self.scopes for value in (*scope.tensors, *scope.producers)}
        candidate, number = name, 1
        while candidate in self._names:
            number += 1
            candidate = f"{name}_{number}"
        self._names.add(candidate)
        return candidate

    def require(self, domain: str, version: int) -> None:
        """Import an operator set, unless the model imports it already."""
        if all(entry.domain != domain for entry in self.model.opset_import):
            self.model.opset_import.append(helper.make_opsetid(domain, version))

    @property
    def opset(self) -> int:
        """The version of the default ONNX operator set."""
        return next((int(entry.version) for entry in self.model.opset_import if entry.domain in ("", "ai.onnx")), 1)

    def save(self) -> None:
        """Write the model without unused initializers; external data that was not converted is copied.

        The concatenation of two serialized messages is one message with the fields of both (protobuf's encoding
        guide). So the weights are appended to the graph one by one, and the model is never in memory as a whole.
        """
        for scope in reversed(self.scopes):  # a subgraph may be the only reader of an outer value
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
        """Append the tensor to the weights that will follow the graph; returns one without values for the graph."""
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
    """The model without external data; the file is memory-mapped, so that it is not in memory twice."""
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


def _external_data(tensor: TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _drop_unused(scope: Scope) -> None:
    """Remove transposes and identities that nothing reads any more, then weights that nothing reads."""
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
    """Every input of a node of the graph or its subgraphs, and every output of a graph."""
    found = {output.name for output in graph.output}
    for node in graph.node:
        found.update(node.input)
        for inner in subgraphs(node):
            found |= _read(inner)
    return found
