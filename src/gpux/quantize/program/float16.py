"""Weights and computation in float16, except where float16 is too coarse.

Inputs and outputs stay float32, except a decoder's KV cache, which would else be cast whole for every token. Sums of
squares, exponentials, angles, and light nodes that lead only to them stay float32: in float16 they overflow (a square
does from 256 on) or lose significant digits (the angle of position 3000). Constants beyond the range of float16 become
its largest value.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, NodeProto, TensorProto, helper, numpy_helper

from gpux.model.graph_io import is_cache
from gpux.quantize.program.graph_file import GraphFile, Scope, subgraphs
from gpux.quantize.program.layers import SMALLEST
from gpux.system.worker_protocol import Refused

FULL, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
#: The largest finite float16.
LARGEST = 65504.0
#: A smaller constant would become zero, and an epsilon must not.
SMALLEST_CONSTANT = 1e-7

#: Element types: name of a value -> its type.
Types = dict[str, int]

#: operator -> its inputs that ONNX defines as float32
_FULL_INPUTS = {"Resize": (1, 2), "Upsample": (1,), "DequantizeLinear": (1,), "QuantizeLinear": (1,)}
_LOOPS = ("Loop", "Scan", "SequenceMap")
#: operator -> its attribute that names the type of the output
_TYPE_ATTRIBUTE = {
    "Cast": "to",
    "RandomNormal": "dtype",
    "RandomUniform": "dtype",
    "EyeLike": "dtype",
    "Bernoulli": "dtype",
}


def convert_float16(file: GraphFile) -> int:
    """Rewrite the graph; returns the bytes of float weights that were converted.

    Raises:
        Refused: ``unsupported_architecture`` for a graph with loops: a value carried from one iteration to the next
            would change its type.
    """
    for scope in file.scopes:
        loops = [node.op_type for node in scope.graph.node if node.op_type in _LOOPS]
        if loops:
            raise Refused("unsupported_architecture", f"fp16 does not support a graph with {loops[0]}")
    return _Float16Converter(file).run()


class _Float16Converter:
    """Visits the nodes in order. A value keeps the type it is computed in, and is cast where another type is needed."""

    def __init__(self, file: GraphFile) -> None:
        self._file = file
        self._types = infer_types(file)
        self._precise = find_precise_nodes(file)
        self._by_graph = {id(scope.graph): scope for scope in file.scopes}
        self._names: dict[tuple[int, str], dict[int, str]] = {}  # (scope, value) -> type -> name in that type
        self._converted = 0

    def run(self) -> int:
        root = self._file.root
        for value in root.graph.input:
            if value.type.tensor_type.elem_type == FULL:
                kind = HALF if is_cache(value.name) else FULL
                value.type.tensor_type.elem_type = kind
                self._names[id(root), value.name] = {kind: value.name}
        self._convert_scope(root)
        return self._converted

    def _convert_scope(self, scope: Scope) -> None:
        added: list[tuple[int, list[NodeProto]]] = []
        for index, node in enumerate(list(scope.graph.node)):
            before: list[NodeProto] = []
            after: list[NodeProto] = []
            self._convert(scope, node, before, after)
            added += [(index, before), (index + 1, after)]
        end: list[NodeProto] = []
        self._convert_outputs(scope, end)
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
                node.input[index] = self._name_in(scope, name, FULL if full else kind, before)
        for graph in subgraphs(node):
            self._convert_scope(self._by_graph[id(graph)])
        if kind == HALF:
            _convert_attributes(node)
        for index, name in enumerate(list(node.output)):
            if name and type_of(scope, name, self._types) == FULL:
                self._record(scope, node, index, kind, after)

    def _record(self, scope: Scope, node: NodeProto, index: int, kind: int, after: list[NodeProto]) -> None:
        """Record the type of a node's output. An output of the model keeps its name for the declared type."""
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
        return int(HALF if is_cache(name) else FULL)

    def _name_in(self, scope: Scope, name: str, kind: int, nodes: list[NodeProto]) -> str:
        """The name of a float value in a type; a cast (or a converted weight) is added on first use.

        A value from outside a branch is cast inside the branch: the nodes of the outer graph before the branch may be
        converted already.
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
            known[HALF] = self._file.add(owner, f"{tensor.name}.half", to_float16(values))
            self._converted += values.size * 4
        return known[HALF]

    def _convert_outputs(self, scope: Scope, nodes: list[NodeProto]) -> None:
        """Declare the type of each output; an output of a branch must be computed inside that branch."""
        for output in scope.graph.output:
            if output.type.tensor_type.elem_type != FULL:
                continue
            output.type.tensor_type.elem_type = self._declared(scope, output.name) or FULL
            if output.name not in scope.producers:
                if scope.outside is None:
                    continue  # an input or a weight that is an output as well
                source = self._name_in(scope, output.name, HALF, nodes)
                output.name = self._file.unique(f"{output.name}.out")
                nodes.append(helper.make_node("Identity", [source], [output.name], output.name))


def to_float16(values: NDArray[Any]) -> NDArray[np.float16]:
    """float32 as float16: finite values stay finite, and a single constant other than zero stays other than zero."""
    if values.size == 1:
        small = (values != 0) & (np.abs(values) < SMALLEST_CONSTANT)
        values = np.where(small, np.copysign(SMALLEST_CONSTANT, values), values)
    half = np.empty(values.shape, np.float16)
    with np.errstate(over="ignore"):
        half[...] = values
    beyond = np.isinf(half) & np.isfinite(values)
    half[beyond] = np.copysign(LARGEST, values[beyond])
    return half


def _convert_attributes(node: NodeProto) -> None:
    """Turn float constants, and attributes that name float32, into float16."""
    if node.op_type in _TYPE_ATTRIBUTE:
        for attribute in node.attribute:
            if attribute.name == _TYPE_ATTRIBUTE[node.op_type] and attribute.i == FULL:
                attribute.i = HALF
    elif node.op_type in ("Constant", "ConstantOfShape"):
        _convert_constant(node)


def _convert_constant(node: NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR and attribute.t.data_type == FULL:
            half = to_float16(numpy_helper.to_array(attribute.t))
            attribute.t.CopyFrom(numpy_helper.from_array(half, attribute.t.name))
            return
        if attribute.name in ("value_float", "value_floats"):
            half = to_float16(np.array(helper.get_attribute_value(attribute), np.float32))
            attribute.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(half)))
            return
    if node.op_type == "ConstantOfShape" and not node.attribute:
        zero = numpy_helper.from_array(np.zeros(1, np.float16))
        node.attribute.append(helper.make_attribute("value", zero))


# Nodes that stay in float32

_POWERS = ("Exp", "Log", "Pow", "Reciprocal", "Softplus", "Sqrt")
_SUMS = ("CumSum", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean", "ReduceProd", "ReduceSum")
_NORMS = ("GroupNormalization", "InstanceNormalization", "LpNormalization", "ReduceSumSquare")
_ANGLES = ("Cos", "DFT", "MelWeightMatrix", "Range", "Sin", "STFT")
_PRECISE = frozenset((*_POWERS, *_SUMS, *_NORMS, *_ANGLES))
_INTEGER_TYPES = (TensorProto.INT64, TensorProto.INT32, TensorProto.INT8, TensorProto.UINT8)
_ATTENTIONS = ("Attention", "GroupQueryAttention", "MultiHeadAttention", "Softmax")
_LAYERS = ("Conv", "ConvTranspose", "Gather", "Gemm", "GRU", "LSTM", "MatMulNBits", "RNN")
_LAYER_NORMS = ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
_SKIP_NORMS = ("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
#: Operators that do most of the computation: they stay in float16, even before a node that needs float32.
_HEAVY = frozenset((*_ATTENTIONS, *_LAYERS, *_LAYER_NORMS, *_SKIP_NORMS, "If", "Loop"))

#: (id of a scope, name): a value.
_Value = tuple[int, str]


def find_precise_nodes(file: GraphFile) -> set[int]:
    """``id`` of the nodes that stay in float32.

    These are operators that overflow or lose significant digits in float16, casts to integers, and light nodes whose
    results only such nodes read: the mean and epsilon before a root, the angle before a cosine, the logarithm before
    an index.
    """
    readers, outputs = _readers(file)
    found: set[int] = set()
    for scope in reversed(file.scopes):
        for node in reversed(scope.graph.node):
            if (
                node.op_type in _PRECISE
                or _casts_to_integer(node)
                or _only_read_by(scope, node, readers, outputs, found)
            ):
                found.add(id(node))
    return found


def _casts_to_integer(node: NodeProto) -> bool:
    return node.op_type == "Cast" and any(part.name == "to" and part.i in _INTEGER_TYPES for part in node.attribute)


def _only_read_by(
    scope: Scope, node: NodeProto, readers: dict[_Value, list[int]], outputs: set[_Value], precise: set[int]
) -> bool:
    """Whether the node is light, and all readers of its results are in ``precise``."""
    if node.op_type in _HEAVY or _is_linear(scope, node):
        return False
    values = [(id(scope), name) for name in node.output if name]
    found = [reader for value in values for reader in readers.get(value, ())]
    return bool(found) and not outputs.intersection(values) and all(reader in precise for reader in found)


def _is_linear(scope: Scope, node: NodeProto) -> bool:
    if node.op_type != "MatMul":
        return False
    weights = [found[1] for name in node.input if (found := scope.find(name)) is not None]
    return any(len(weight.dims) >= 2 and weight.dims[-1] * weight.dims[-2] >= SMALLEST for weight in weights)


def _readers(file: GraphFile) -> tuple[dict[_Value, list[int]], set[_Value]]:
    """Value -> ``id`` of the nodes that read it, those of subgraphs too; and the values that are outputs of a graph."""
    readers: dict[_Value, list[int]] = defaultdict(list)
    outputs: set[_Value] = set()
    for scope in file.scopes:
        for node in scope.graph.node:
            for name in node.input:
                readers[_scope_of(scope, name), name].append(id(node))
        outputs |= {(_scope_of(scope, output.name), output.name) for output in scope.graph.output}
    return readers, outputs


def _scope_of(scope: Scope, name: str) -> int:
    """``id`` of the scope that computes a value; of the outermost one for an input or a weight."""
    place: Scope | None = scope
    while place is not None:
        if name in place.producers or place.outside is None:
            return id(place)
        place = place.outside
    return id(scope)


# Element types. onnx's own inference stops at the first operator of another domain; here the first output of an unknown
# operator has the type of its first input, which is true for onnxruntime's operators. Shapes are not needed.

_BOOLEAN = ("And", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Not", "Or", "Xor")
_INTEGER = ("ArgMax", "ArgMin", "NonMaxSuppression", "NonZero", "Shape", "Size")
#: operator -> the input with the type of its first output, where that is not the first input
_TYPE_SOURCE = {"Where": 1, "OneHot": 2, "CastLike": 1, "DequantizeLinear": 1}
#: operators whose outputs after the first are indices
_WITH_INDICES = ("TopK", "Unique", "MaxPool")


def infer_types(file: GraphFile) -> dict[int, Types]:
    """``id`` of each scope -> element types of the values that the scope itself defines."""
    found: dict[int, Types] = {}
    by_graph = {id(scope.graph): scope for scope in file.scopes}
    _infer(file.root, by_graph, found)
    return found


def type_of(scope: Scope | None, name: str, types: dict[int, Types]) -> int:
    """The element type of a value visible in a scope; 0 where it is unknown."""
    while scope is not None:
        if name in types.get(id(scope), {}):
            return types[id(scope)][name]
        scope = scope.outside
    return 0


def _infer(scope: Scope, by_graph: dict[int, Scope], found: dict[int, Types]) -> None:
    types = found[id(scope)] = {tensor.name: tensor.data_type for tensor in scope.graph.initializer}
    types |= {value.name: value.type.tensor_type.elem_type for value in scope.graph.input}
    for node in scope.graph.node:
        inner = [by_graph[id(graph)] for graph in subgraphs(node)]
        for part in inner:
            _infer(part, by_graph, found)
        kinds = _branch_types(inner[0], found) if inner else _node_types(node, scope, found)
        types.update({name: kind for name, kind in zip(node.output, kinds, strict=False) if name})


def _branch_types(branch: Scope, found: dict[int, Types]) -> list[int]:
    return [type_of(branch, output.name, found) for output in branch.graph.output]


def _node_types(node: NodeProto, scope: Scope, found: dict[int, Types]) -> list[int]:
    count, kind = len(node.output), node.op_type
    if kind in _BOOLEAN:
        return [TensorProto.BOOL] * count
    if kind in _INTEGER:
        return [TensorProto.INT64] * count
    if kind == "DynamicQuantizeLinear":
        return [TensorProto.UINT8, TensorProto.FLOAT, TensorProto.UINT8]
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if kind in ("Constant", "ConstantOfShape"):
        return [_constant_type({name: helper.get_attribute_value(value) for name, value in attributes.items()})]
    if kind in _TYPE_ATTRIBUTE and _TYPE_ATTRIBUTE[kind] in attributes:
        return [int(attributes[_TYPE_ATTRIBUTE[kind]].i)] * count
    if kind in ("RandomNormal", "RandomUniform"):
        return [TensorProto.FLOAT] * count
    source = node.input[_TYPE_SOURCE.get(kind, 0)] if node.input else ""
    first = type_of(scope, source or next(filter(None, node.input), ""), found)
    return [first, *[TensorProto.INT64] * (count - 1)] if kind in _WITH_INDICES else [first] * count


def _constant_type(values: dict[str, object]) -> int:
    value = values.get("value")
    if isinstance(value, TensorProto):
        return int(value.data_type)
    whole = any(name in values for name in ("value_int", "value_ints"))
    text = any(name in values for name in ("value_string", "value_strings"))
    return int(TensorProto.INT64 if whole else TensorProto.STRING if text else TensorProto.FLOAT)
