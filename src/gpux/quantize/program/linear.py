"""Finds the layers that multiply by a constant matrix, however an exporter wrote them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from onnx import NodeProto, TensorProto, helper

from gpux.quantize.program.graph_file import GraphFile, Scope

#: A float matrix smaller than this is left alone: nothing is gained by it.
SMALLEST = 1024


@dataclass(frozen=True)
class Linear:
    """``Y = A @ W (+ bias)`` with W constant: a MatMul or Gemm node."""

    scope: Scope  #: where the node is
    node: NodeProto
    owner: Scope  #: where the weight is
    weight: TensorProto
    transposed: bool  #: stored as [N, K], so that W is its transpose; else as [K, N]
    bias: str = ""

    @property
    def key(self) -> tuple[int, str, bool]:
        """What two layers share if they share the weight."""
        return id(self.owner), self.weight.name, self.transposed

    @property
    def shape(self) -> tuple[int, int]:
        """K (inputs) and N (outputs)."""
        first, second = self.weight.dims
        return (int(second), int(first)) if self.transposed else (int(first), int(second))


@dataclass(frozen=True)
class Table:
    """``Y = W[ids]`` with W constant, [rows, width]: an embedding."""

    scope: Scope
    node: NodeProto
    owner: Scope
    weight: TensorProto

    @property
    def key(self) -> tuple[int, str, bool]:
        """Equal to that of a linear layer with the same weight, transposed: a tied head."""
        return id(self.owner), self.weight.name, True


def linears(file: GraphFile) -> Iterator[Linear]:
    """Every layer of that kind, subgraphs included."""
    for scope in file.scopes:
        for node in scope.graph.node:
            found = _linear(scope, node)
            if found is not None:
                yield found


def tables(file: GraphFile) -> Iterator[Table]:
    """Every embedding, subgraphs included."""
    for scope in file.scopes:
        for node in scope.graph.node:
            if node.op_type != "Gather" or node.domain or _integer(node, "axis", 0) != 0:
                continue
            found = scope.find(node.input[0])
            if found is not None and _is_matrix(found[1]):
                yield Table(scope, node, *found)


def _linear(scope: Scope, node: NodeProto) -> Linear | None:
    if node.domain or node.op_type not in ("MatMul", "Gemm"):
        return None
    if node.op_type == "Gemm" and not _is_plain(node):
        return None
    source = _source(scope, node.input[1])
    if source is None:
        return None
    owner, weight, transposed = source
    if node.op_type == "MatMul":
        return Linear(scope, node, owner, weight, transposed)
    bias = node.input[2] if len(node.input) > 2 else ""
    return Linear(scope, node, owner, weight, transposed != bool(_integer(node, "transB", 0)), bias)


def _source(scope: Scope, name: str) -> tuple[Scope, TensorProto, bool] | None:
    """The matrix behind a value, through Identity and Transpose."""
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


def heads(file: GraphFile) -> set[int]:
    """``id`` of the nodes whose answer, but for elementwise work, is an output of the model."""
    scope, found = file.root, set()
    pending = [output.name for output in scope.graph.output]
    while pending:
        node = scope.producers.get(pending.pop())
        if node is None:
            continue
        if node.op_type in ("MatMul", "Gemm"):
            found.add(id(node))
        elif node.op_type in _ELEMENTWISE:
            pending.extend(node.input)
    return found


_ELEMENTWISE = ("Add", "Mul", "Div", "Sub", "Cast", "Tanh", "Identity", "Reshape", "Squeeze", "Slice", "Gather", "If")
