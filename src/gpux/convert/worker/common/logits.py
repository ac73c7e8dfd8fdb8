"""An optional input of decoders, with which only the logits of the last tokens are computed.

Of a prompt, only the last token's logits are used. The others cost much of a small model's time and, with a large
vocabulary, most of a call's memory. The input ``logits_start``, ``int64[1]``, is the first token with logits; if
negative, it counts from the end (ONNX, Slice: ``starts``, which devices read in the host's memory). Its default, 0,
means all. A default is an initializer with the name of an input (ONNX IR, "Graphs": inputs).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from gpux.model.graph_io import is_cache_input

INPUT = "logits_start"
LOGITS = "logits"
#: Operators that may follow the head: scales, soft caps, biases.
_ELEMENTWISE = frozenset({"Add", "Cast", "Clip", "Div", "Identity", "Mul", "Sub", "Tanh", "Where"})
#: Operators that may stand between a weight and the head.
_VIEWS = frozenset({"Cast", "Identity", "Transpose"})
_END = np.iinfo(np.int64).max


def add_logits_start(file: Path, ranks: Mapping[str, int] | None = None) -> bool:
    """Add the input to a decoder's graph, and return whether it was added.

    It is not added, and the file is unchanged, if the graph has no KV cache, reads an encoder, or does not compute its
    logits by one matrix multiplication of the hidden states.

    Args:
        file: the graph; its external data stays where it is.
        ranks: weights that are still inputs of the graph: name -> rank.
    """
    model = onnx.load(file, load_external_data=False)
    graph = model.graph
    weights = {tensor.name: len(tensor.dims) for tensor in graph.initializer} | dict(ranks or {})
    head = _head(graph, weights) if _is_decoder(graph) else None
    if head is None:
        return False
    _slice(graph, head)
    _logits(graph)[0].type.tensor_type.shape.dim[1].dim_param = "scored_length"
    onnx.save(model, file)
    return True


def _is_decoder(graph: onnx.GraphProto) -> bool:
    """Whether a graph has a KV cache, no encoder, logits ``[rows, tokens, vocabulary]``, and not yet the input."""
    names = [value.name for value in graph.input]
    ranks = [len(value.type.tensor_type.shape.dim) for value in _logits(graph)]
    cached = any(map(is_cache_input, names))
    return cached and ranks == [3] and not any("encoder" in name or name == INPUT for name in names)


def _logits(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    return [value for value in graph.output if value.name == LOGITS]


def _head(graph: onnx.GraphProto, weights: Mapping[str, int]) -> onnx.NodeProto | None:
    """The matrix multiplication that computes the logits."""
    producers = {name: node for node in graph.node for name in node.output}
    constants = {name for name, node in producers.items() if node.op_type == "Constant"} | set(weights)
    name = LOGITS
    while (node := producers.get(name)) is not None:
        if node.op_type == "MatMul":
            return node if _rank(node.input[1], producers, weights) == 2 else None
        computed = [one for one in node.input if one and one not in constants]
        if node.op_type not in _ELEMENTWISE or len(computed) != 1:
            return None
        if any(weights.get(one, 0) > 1 for one in node.input):  # a value for each position, not for each word
            return None
        name = computed[0]
    return None


def _rank(name: str, producers: Mapping[str, onnx.NodeProto], weights: Mapping[str, int]) -> int | None:
    """The rank of a weight, or of a transposed one; None for a value that is computed from inputs."""
    while name not in weights:
        node = producers.get(name)
        if node is None or node.op_type not in _VIEWS:
            return None
        name = node.input[0]
    return weights[name]


def _slice(graph: onnx.GraphProto, head: onnx.NodeProto) -> None:
    """Insert a slice of the last tokens before the head; other nodes still read all tokens."""
    hidden, kept, end, axes = head.input[0], f"{INPUT}.hidden", f"{INPUT}.end", f"{INPUT}.axes"
    graph.input.append(helper.make_tensor_value_info(INPUT, onnx.TensorProto.INT64, [1]))
    for name, value in ((INPUT, 0), (end, _END), (axes, 1)):
        graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), name))
    place = next(index for index, node in enumerate(graph.node) if node is head)
    graph.node.insert(place, helper.make_node("Slice", [hidden, INPUT, end, axes], [kept], name=f"{INPUT}.slice"))
    head.input[0] = kept
