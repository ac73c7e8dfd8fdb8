"""Which nodes float16 is too coarse for."""

from __future__ import annotations

from collections import defaultdict

from onnx import NodeProto, TensorProto

from gpux.quantize.program.graph_file import GraphFile, Scope
from gpux.quantize.program.linear import SMALLEST

_POWERS = ("Exp", "Log", "Pow", "Reciprocal", "Softplus", "Sqrt")
_SUMS = ("CumSum", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean", "ReduceProd", "ReduceSum")
_NORMS = ("GroupNormalization", "InstanceNormalization", "LpNormalization", "ReduceSumSquare")
_ANGLES = ("Cos", "DFT", "MelWeightMatrix", "Range", "Sin", "STFT")
_PRECISE = frozenset((*_POWERS, *_SUMS, *_NORMS, *_ANGLES))
_WHOLE = (TensorProto.INT64, TensorProto.INT32, TensorProto.INT8, TensorProto.UINT8)
_ATTENTIONS = ("Attention", "GroupQueryAttention", "MultiHeadAttention", "Softmax")
_LAYERS = ("Conv", "ConvTranspose", "Gather", "Gemm", "GRU", "LSTM", "MatMulNBits", "RNN")
_LAYER_NORMS = ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
_SKIP_NORMS = ("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
#: What the answer is computed with: never taken along into float32.
_HEAVY = frozenset((*_ATTENTIONS, *_LAYERS, *_LAYER_NORMS, *_SKIP_NORMS, "If", "Loop"))


def precise_nodes(file: GraphFile) -> set[int]:
    """``id`` of the nodes that stay in float32.

    These are operators that overflow or lose what counts, and before them light ones that lead to nothing else: the
    mean and epsilon before a root, the angle before a cosine, the logarithm before an index.
    """
    consumers, outputs = _consumers(file)
    found: set[int] = set()
    for scope in reversed(file.scopes):
        for node in reversed(scope.graph.node):
            if node.op_type in _PRECISE or _makes_whole(node) or _leads_there(scope, node, consumers, outputs, found):
                found.add(id(node))
    return found


def _makes_whole(node: NodeProto) -> bool:
    return node.op_type == "Cast" and any(part.name == "to" and part.i in _WHOLE for part in node.attribute)


def _leads_there(
    scope: Scope,
    node: NodeProto,
    consumers: dict[tuple[int, str], list[int]],
    outputs: set[tuple[int, str]],
    found: set[int],
) -> bool:
    if node.op_type in _HEAVY or _has_weight(scope, node):
        return False
    names = [(id(scope), name) for name in node.output if name]
    readers = [reader for name in names for reader in consumers.get(name, ())]
    return bool(readers) and not outputs.intersection(names) and all(reader in found for reader in readers)


def _has_weight(scope: Scope, node: NodeProto) -> bool:
    if node.op_type != "MatMul":
        return False
    weights = [found[1] for name in node.input if (found := scope.find(name)) is not None]
    return any(len(weight.dims) >= 2 and weight.dims[-1] * weight.dims[-2] >= SMALLEST for weight in weights)


def _consumers(file: GraphFile) -> tuple[dict[tuple[int, str], list[int]], set[tuple[int, str]]]:
    """(scope, name) -> ``id`` of its readers, inner ones too; and the values that are outputs of a graph."""
    readers: dict[tuple[int, str], list[int]] = defaultdict(list)
    outputs: set[tuple[int, str]] = set()
    for scope in file.scopes:
        for node in scope.graph.node:
            for name in node.input:
                readers[_home(scope, name), name].append(id(node))
        outputs |= {(_home(scope, output.name), output.name) for output in scope.graph.output}
    return readers, outputs


def _home(scope: Scope, name: str) -> int:
    place: Scope | None = scope
    while place is not None:
        if name in place.producers or place.outside is None:
            return id(place)
        place = place.outside
    return id(scope)
