"""Finds the layers with a constant weight matrix: linear layers, embeddings and heads, as any exporter writes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from onnx import NodeProto, TensorProto, helper

from gpux.quantize.program.graph_file import GraphFile, Scope

#: A float matrix with fewer values is not quantized: it would save next to nothing.
SMALLEST = 1024
#: Operators between a head and the output of the model.
_AFTER_HEAD = ("Add", "Mul", "Div", "Sub", "Cast", "Tanh", "Identity", "Reshape", "Squeeze", "Slice", "Gather", "If")

#: Identifies a weight: ``id`` of its scope, its name, and whether it is stored as [N, K]. Layers with the same key
#: share the weight.
WeightKey = tuple[int, str, bool]


@dataclass(frozen=True)
class Linear:
    """``Y = A @ W (+ bias)`` with W constant: a MatMul or Gemm node."""

    scope: Scope  #: of the node
    node: NodeProto
    owner: Scope  #: scope of the weight
    weight: TensorProto
    transposed: bool  #: the weight is stored as [N, K]; else as [K, N]
    bias: str = ""

    @property
    def key(self) -> WeightKey:
        """The key of the weight."""
        return id(self.owner), self.weight.name, self.transposed

    @property
    def shape(self) -> tuple[int, int]:
        """K (inputs) and N (outputs)."""
        first, second = self.weight.dims
        return (int(second), int(first)) if self.transposed else (int(first), int(second))


@dataclass(frozen=True)
class Embedding:
    """``Y = W[ids]`` with W constant, [rows, width]: a Gather node."""

    scope: Scope
    node: NodeProto
    owner: Scope
    weight: TensorProto

    @property
    def key(self) -> WeightKey:
        """The key of the weight; a head that is tied to the embedding is a transposed linear layer with this key."""
        return id(self.owner), self.weight.name, True


def find_linears(file: GraphFile) -> Iterator[Linear]:
    """Every linear layer, subgraphs included."""
    for scope in file.scopes:
        for node in scope.graph.node:
            found = _linear(scope, node)
            if found is not None:
                yield found


def find_embeddings(file: GraphFile) -> Iterator[Embedding]:
    """Every embedding, subgraphs included."""
    for scope in file.scopes:
        for node in scope.graph.node:
            if node.op_type != "Gather" or node.domain or _integer(node, "axis", 0) != 0:
                continue
            found = scope.find(node.input[0])
            if found is not None and _is_matrix(found[1]):
                yield Embedding(scope, node, *found)


def find_heads(file: GraphFile) -> set[int]:
    """``id`` of the linear nodes whose result reaches an output of the model through elementwise operators alone."""
    scope, found = file.root, set()
    pending = [output.name for output in scope.graph.output]
    while pending:
        node = scope.producers.get(pending.pop())
        if node is None:
            continue
        if node.op_type in ("MatMul", "Gemm"):
            found.add(id(node))
        elif node.op_type in _AFTER_HEAD:
            pending.extend(node.input)
    return found


def _linear(scope: Scope, node: NodeProto) -> Linear | None:
    if node.domain or node.op_type not in ("MatMul", "Gemm"):
        return None
    if node.op_type == "Gemm" and not _is_plain(node):
        return None
    source = _weight_of(scope, node.input[1])
    if source is None:
        return None
    owner, weight, transposed = source
    if node.op_type == "MatMul":
        return Linear(scope, node, owner, weight, transposed)
    bias = node.input[2] if len(node.input) > 2 else ""
    return Linear(scope, node, owner, weight, transposed != bool(_integer(node, "transB", 0)), bias)


def _weight_of(scope: Scope, name: str) -> tuple[Scope, TensorProto, bool] | None:
    """The constant matrix that a value is, also behind Identity and Transpose; the last item: is it transposed."""
    transposed = False
    while (found := scope.find(name)) is None:
        node = scope.producer(name)
        if node is None or node.domain or node.op_type not in ("Identity", "Transpose"):
            return None
        transposed ^= node.op_type == "Transpose"
        name = node.input[0]
    return (*found, transposed) if _is_matrix(found[1]) else None


def _is_matrix(tensor: TensorProto) -> bool:
    dims = tensor.dims
    return tensor.data_type == TensorProto.FLOAT and len(dims) == 2 and dims[0] * dims[1] >= SMALLEST


def _is_plain(node: NodeProto) -> bool:
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return values.get("alpha", 1.0) == 1.0 and values.get("beta", 1.0) == 1.0 and not values.get("transA", 0)


def _integer(node: NodeProto, name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)
