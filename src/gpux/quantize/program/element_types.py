"""The element type of every value of a graph, from its operators alone (weights are not looked at, shapes not needed).

onnx's own inference stops at the first operator of another domain; here an unknown operator answers in the type of its
first input, which holds for onnxruntime's.
"""

from __future__ import annotations

from onnx import NodeProto, TensorProto, helper

from gpux.quantize.program.graph_file import GraphFile, Scope, subgraphs

_BOOLEAN = ("And", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Not", "Or", "Xor")
_INTEGER = ("ArgMax", "ArgMin", "NonMaxSuppression", "NonZero", "Shape", "Size")
#: operator -> the input whose type its first output has, where that is not the first
_SOURCE = {"Where": 1, "OneHot": 2, "CastLike": 1, "DequantizeLinear": 1}
#: operators whose further outputs are indices
_INDICES = ("TopK", "Unique", "MaxPool")
_ATTRIBUTE = {"Cast": "to", "RandomNormal": "dtype", "RandomUniform": "dtype", "EyeLike": "dtype", "Bernoulli": "dtype"}

Types = dict[str, int]


def infer_types(file: GraphFile) -> dict[int, Types]:
    """``id`` of each scope -> name -> element type, of the values that the scope itself makes."""
    found: dict[int, Types] = {}
    by_graph = {id(scope.graph): scope for scope in file.scopes}
    _infer(file.root, by_graph, found)
    return found


def type_of(scope: Scope | None, name: str, types: dict[int, Types]) -> int:
    """The element type of a value seen from a scope; 0 where it is not known."""
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
    if kind in _ATTRIBUTE and _ATTRIBUTE[kind] in attributes:
        return [int(attributes[_ATTRIBUTE[kind]].i)] * count
    if kind in ("RandomNormal", "RandomUniform"):
        return [TensorProto.FLOAT] * count
    source = node.input[_SOURCE.get(kind, 0)] if node.input else ""
    first = type_of(scope, source or next(filter(None, node.input), ""), found)
    return [first, *[TensorProto.INT64] * (count - 1)] if kind in _INDICES else [first] * count


def _constant_type(values: dict[str, object]) -> int:
    value = values.get("value")
    if isinstance(value, TensorProto):
        return int(value.data_type)
    whole = any(name in values for name in ("value_int", "value_ints"))
    text = any(name in values for name in ("value_string", "value_strings"))
    return int(TensorProto.INT64 if whole else TensorProto.STRING if text else TensorProto.FLOAT)
