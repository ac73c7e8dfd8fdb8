"""Weights and computation in float16, where float16 is enough.

Inputs and outputs stay float32, except a decoder's cache, which would be cast whole at every token. Sums of squares,
exponentials, angles and what only leads to them stay float32: they overflow (a square does from 256 on) or lose the
digits that count (an angle of position 3000). Constants beyond the range become its end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, NodeProto, TensorProto, helper, numpy_helper

from gpux.quantize.program.element_types import infer_types, type_of
from gpux.quantize.program.graph_file import GraphFile, Scope, subgraphs
from gpux.quantize.program.precise import precise_nodes
from gpux.system.worker_protocol import Refused

FULL, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
LARGEST = 65504.0
#: A constant below it would become zero, and an epsilon must not.
SMALLEST = 1e-7
#: Inputs and outputs of these names are a cache.
CACHE = ("past", "present", "cache")
#: operator -> inputs that are float32 by its definition
_FULL_INPUTS = {"Resize": (1, 2), "Upsample": (1,), "DequantizeLinear": (1,), "QuantizeLinear": (1,)}
_LOOPS = ("Loop", "Scan", "SequenceMap")
#: operators that name a type -> the attribute
_TYPED = {"Cast": "to", "RandomNormal": "dtype", "RandomUniform": "dtype", "EyeLike": "dtype", "Bernoulli": "dtype"}


def to_float16(file: GraphFile) -> int:
    """Rewrite the graph; how many bytes of float weights were reduced.

    Raises:
        Refused: ``unsupported_architecture`` for a graph with loops, whose values change type from turn to turn.
    """
    for scope in file.scopes:
        loops = [node.op_type for node in scope.graph.node if node.op_type in _LOOPS]
        if loops:
            raise Refused("unsupported_architecture", f"fp16 is not made of a graph with {loops[0]}")
    return _Halver(file).run()


class _Halver:
    """Walks the nodes in order; a value exists in the precision it is made in, and is cast where another is wanted."""

    def __init__(self, file: GraphFile) -> None:
        self._file = file
        self._types = infer_types(file)
        self._precise = precise_nodes(file)
        self._by_graph = {id(scope.graph): scope for scope in file.scopes}
        self._names: dict[tuple[int, str], dict[int, str]] = {}  # (scope, name) -> precision -> name
        self._reduced = 0

    def run(self) -> int:
        root = self._file.root
        for value in root.graph.input:
            if value.type.tensor_type.elem_type == FULL:
                kind = HALF if value.name.startswith(CACHE) else FULL
                value.type.tensor_type.elem_type = kind
                self._names[id(root), value.name] = {kind: value.name}
        self._walk(root)
        return self._reduced

    def _walk(self, scope: Scope) -> None:
        added: list[tuple[int, list[NodeProto]]] = []
        for index, node in enumerate(list(scope.graph.node)):
            before: list[NodeProto] = []
            after: list[NodeProto] = []
            self._convert(scope, node, before, after)
            added += [(index, before), (index + 1, after)]
        end: list[NodeProto] = []
        self._finish(scope, end)
        scope.graph.node.extend(end)
        for place, nodes in reversed(added):
            for node in reversed(nodes):
                scope.graph.node.insert(place, node)
        del scope.graph.value_info[:]

    def _convert(self, scope: Scope, node: NodeProto, before: list[NodeProto], after: list[NodeProto]) -> None:
        kind = FULL if id(node) in self._precise else HALF
        for index, name in enumerate(list(node.input)):
            if name and type_of(scope, name, self._types) == FULL:
                full = index in _FULL_INPUTS.get(node.op_type, ())
                node.input[index] = self._wanted(scope, name, FULL if full else kind, before)
        for graph in subgraphs(node):
            self._walk(self._by_graph[id(graph)])
        if kind == HALF:
            _halve_attributes(node)
        for index, name in enumerate(list(node.output)):
            if name and type_of(scope, name, self._types) == FULL:
                self._made(scope, node, index, kind, after)

    def _made(self, scope: Scope, node: NodeProto, index: int, kind: int, after: list[NodeProto]) -> None:
        """Record what a node makes; the model's own outputs keep their name for the declared type."""
        name = node.output[index]
        declared = self._declared(scope, name)
        self._names[id(scope), name] = {kind: name}
        if declared in (None, kind):
            return
        node.output[index] = self._file.unique(f"{name}.{'half' if kind == HALF else 'full'}")
        after.append(helper.make_node("Cast", [node.output[index]], [name], f"{name}.cast", to=declared))
        self._names[id(scope), name] = {kind: node.output[index], declared: name}

    def _declared(self, scope: Scope, name: str) -> int | None:
        """The type of an output of the model or of a branch; None for any other value."""
        if all(output.name != name for output in scope.graph.output):
            return None
        if scope.outside is not None:
            return int(HALF)
        return int(HALF if name.startswith(CACHE) else FULL)

    def _wanted(self, scope: Scope, name: str, kind: int, nodes: list[NodeProto]) -> str:
        """The name under which a float value is there in a precision; cast, or stored so, on first demand.

        A value from outside a branch is cast inside it: the outer graph may have passed the place already.
        """
        found = scope.find(name)
        if found is not None:
            return self._weight(*found, kind)
        place: Scope | None = scope
        source = name
        while place is not None:
            known = self._names.get((id(place), name), {})
            if kind in known:
                return known[kind]
            if known and source == name:
                source = next(iter(known.values()))
            place = None if name in place.producers else place.outside
        return self._cast(scope, name, source, kind, nodes)

    def _cast(self, scope: Scope, name: str, source: str, kind: int, nodes: list[NodeProto]) -> str:
        target = self._file.unique(f"{name}.{'half' if kind == HALF else 'full'}")
        nodes.append(helper.make_node("Cast", [source], [target], target, to=kind))
        self._names.setdefault((id(scope), name), {})[kind] = target
        return target

    def _weight(self, owner: Scope, tensor: TensorProto, kind: int) -> str:
        if kind == FULL:
            return str(tensor.name)
        known = self._names.setdefault((id(owner), tensor.name), {})
        if HALF not in known:
            values = self._file.array(tensor)
            known[HALF] = self._file.add(owner, f"{tensor.name}.half", halve(values))
            self._reduced += values.size * 4
        return known[HALF]

    def _finish(self, scope: Scope, nodes: list[NodeProto]) -> None:
        """Give outputs their type; an output of a branch must be made in that branch."""
        for output in scope.graph.output:
            if output.type.tensor_type.elem_type != FULL:
                continue
            output.type.tensor_type.elem_type = self._declared(scope, output.name) or FULL
            if output.name not in scope.producers:
                if scope.outside is None:
                    continue  # an input or weight that is handed out as it is
                source = self._wanted(scope, output.name, HALF, nodes)
                output.name = self._file.unique(f"{output.name}.out")
                nodes.append(helper.make_node("Identity", [source], [output.name], output.name))


def halve(values: NDArray[Any]) -> NDArray[np.float16]:
    """float16 of float32, what is finite within its range; a single constant that is not zero stays so."""
    if values.size == 1:
        small = (values != 0) & (np.abs(values) < SMALLEST)
        values = np.where(small, np.copysign(SMALLEST, values), values)
    half = np.empty(values.shape, np.float16)
    with np.errstate(over="ignore"):
        half[...] = values
    beyond = np.isinf(half) & np.isfinite(values)
    half[beyond] = np.copysign(LARGEST, values[beyond])
    return half


def _halve_attributes(node: NodeProto) -> None:
    """Float constants, and types that an operator is told, become float16."""
    if node.op_type in _TYPED:
        for attribute in node.attribute:
            if attribute.name == _TYPED[node.op_type] and attribute.i == FULL:
                attribute.i = HALF
    elif node.op_type in ("Constant", "ConstantOfShape"):
        _halve_constant(node)


def _halve_constant(node: NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR and attribute.t.data_type == FULL:
            attribute.t.CopyFrom(numpy_helper.from_array(halve(numpy_helper.to_array(attribute.t)), attribute.t.name))
            return
        if attribute.name in ("value_float", "value_floats"):
            values = halve(np.array(helper.get_attribute_value(attribute), np.float32))
            attribute.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(values)))
            return
    if node.op_type == "ConstantOfShape" and not node.attribute:
        zero = numpy_helper.from_array(np.zeros(1, np.float16))
        node.attribute.append(helper.make_attribute("value", zero))
