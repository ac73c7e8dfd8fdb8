"""A decoder of one layer as graphs, and the same in numpy.

``growing`` has a growing cache, ``shared`` one in which past and present share memory; both have position inputs.
``rotary`` has a growing one too, and rotates queries and keys by their place in it, padding included.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gpux.runtime.limits import write_limits

VOCABULARY, HEADS, SIZE, POSITIONS = 48, 2, 8, 64
HIDDEN = HEADS * SIZE
SPEEDS = np.array([1.0, 0.3, 0.1, 0.03], np.float32)  # radians a place, of each pair of a head
Kind = Literal["growing", "shared", "rotary"]
Array = NDArray[Any]


def weights(seed: int = 0) -> dict[str, Array]:
    """Large enough that every token, position and mask shows in what is written."""
    rng = np.random.default_rng(seed)
    shapes = {
        "words": (VOCABULARY, HIDDEN),
        "places": (POSITIONS, HIDDEN),
        **dict.fromkeys(("q", "k", "v", "o"), (HIDDEN, HIDDEN)),
    }
    found = {name: rng.normal(size=shape).astype(np.float32) * 0.7 for name, shape in shapes.items()}
    return {**found, "head": np.ascontiguousarray(found["words"].T)}


def scores(ids: Sequence[int], *, rotary: bool = False) -> Array:
    """The scores after each token of one row, ``[tokens, vocabulary]``, computed at once and without a cache."""
    return np.asarray(hidden(ids, rotary=rotary) @ weights()["head"].astype(np.float64))


def hidden(ids: Sequence[int], *, rotary: bool = False) -> Array:
    """The vector of each token of one row, ``[tokens, HIDDEN]``, from which its scores follow."""
    w = {name: array.astype(np.float64) for name, array in weights().items()}
    count = len(ids)
    x = w["words"][list(ids)] + (0 if rotary else w["places"][:count])
    q, k, v = ((x @ w[name]).reshape(count, HEADS, SIZE).transpose(1, 0, 2) for name in "qkv")
    if rotary:
        q, k = _turned(q), _turned(k)
    weighed = q @ k.transpose(0, 2, 1) / SIZE**0.5
    weighed = np.where(np.tri(count, dtype=bool), weighed, -np.inf)
    shares = np.exp(weighed - weighed.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    mixed = (shares @ v).transpose(1, 0, 2).reshape(count, HIDDEN)
    return np.asarray(np.tanh(x + mixed @ w["o"]))


def _turned(heads: Array) -> Array:
    """Rotary positions from 0 on, ``[heads, tokens, size]``."""
    angle = np.arange(heads.shape[1])[:, None] * SPEEDS
    low, high = np.split(heads, 2, axis=-1)
    return np.concatenate(
        [low * np.cos(angle) - high * np.sin(angle), low * np.sin(angle) + high * np.cos(angle)], axis=-1
    )


def greedy(prompt: Sequence[int], count: int, *, rotary: bool = False) -> list[int]:
    """What follows a prompt."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(scores(ids, rotary=rotary)[-1].argmax()))
    return ids[len(prompt) :]


def write(file: Path, kind: Kind, *, limit: int | None = None) -> Path:
    """Write the graph; ``limit``: tokens that it is said to be right for."""
    heads: dict[Kind, Any] = {"growing": _concatenated, "shared": _grouped, "rotary": _rotary}
    nodes = [
        *_embedded(positions=kind != "rotary"),
        *(helper.make_node("MatMul", ["x", name], [f"{name}_flat"]) for name in "qkv"),
        *heads[kind](),
        helper.make_node("MatMul", ["mixed", "o"], ["answered"]),
        helper.make_node("Add", ["x", "answered"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["bounded"]),
        helper.make_node("MatMul", ["bounded", "head"], ["logits"]),
    ]
    names = ("input_ids",) if kind == "rotary" else ("input_ids", "position_ids")
    ids = [_spec(name, TensorProto.INT64, ["batch", "sequence"]) for name in names]
    mask = _spec("attention_mask", TensorProto.INT64, ["batch", "total"])
    logits = _spec("logits", TensorProto.FLOAT, ["batch", "sequence", VOCABULARY])
    past = [_spec(f"past_key_values.0.{part}", TensorProto.FLOAT, ["batch", HEADS, "past", SIZE]) for part in _PARTS]
    present = [_spec(f"present.0.{part}", TensorProto.FLOAT, ["batch", HEADS, "total", SIZE]) for part in _PARTS]
    return _save(file, nodes, [*ids, mask, *past], [logits, *present], limit)


def write_encoder(file: Path, kind: Kind) -> Path:
    """The same graph with the vectors of the tokens as ``last_hidden_state`` in place of the scores."""
    model = onnx.load(write(file, kind))
    graph = model.graph
    head = next(node for node in graph.node if node.output[0] == "logits")
    vectors = next(node for node in graph.node if node.output[0] == "bounded")
    graph.node.remove(head)
    vectors.output[0] = "last_hidden_state"
    graph.initializer.remove(next(tensor for tensor in graph.initializer if tensor.name == "head"))
    graph.output[0].CopyFrom(_spec("last_hidden_state", TensorProto.FLOAT, ["batch", "sequence", HIDDEN]))
    onnx.save(model, file)
    return file


def tie(file: Path) -> Path:
    """Make the embedding of a written graph its head too, and put it into a file beside."""
    model = onnx.load(file)
    graph = model.graph
    graph.initializer.remove(next(tensor for tensor in graph.initializer if tensor.name == "head"))
    graph.node.insert(0, helper.make_node("Transpose", ["words"], ["head"], perm=[1, 0]))
    onnx.save(model, file, save_as_external_data=True, location=f"{file.name}_data", size_threshold=1024)
    return file


def write_without_cache(file: Path) -> Path:
    """The scores of words alone: no cache."""
    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["word"]),
        helper.make_node("MatMul", ["word", "head"], ["logits"]),
    ]
    ids = _spec("input_ids", TensorProto.INT64, ["batch", "sequence"])
    return _save(file, nodes, [ids], [_spec("logits", TensorProto.FLOAT, ["batch", "sequence", VOCABULARY])])


def write_recurrent(file: Path) -> Path:
    """A state that does not grow with the tokens, as recurrent models have."""
    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["word"]),
        helper.make_node("MatMul", ["word", "head"], ["logits"]),
        helper.make_node("Identity", ["past_key_values.0.state"], ["present.0.state"]),
    ]
    state = ["batch", HIDDEN, SIZE]
    inputs = [
        _spec("input_ids", TensorProto.INT64, ["batch", "sequence"]),
        _spec("past_key_values.0.state", TensorProto.FLOAT, state),
    ]
    logits = _spec("logits", TensorProto.FLOAT, ["batch", "sequence", VOCABULARY])
    return _save(file, nodes, inputs, [logits, _spec("present.0.state", TensorProto.FLOAT, state)])


def write_with_types(file: Path) -> Path:
    """A cache, and an input that a text alone does not give."""
    write(file, "growing")
    model = onnx.load(file)
    model.graph.input.append(_spec("token_type_ids", TensorProto.INT64, ["batch", "sequence"]))
    onnx.save(model, file)
    return file


_PARTS = ("key", "value")


def _embedded(*, positions: bool) -> list[onnx.NodeProto]:
    word = helper.make_node("Gather", ["words", "input_ids"], ["word" if positions else "x"])
    place = helper.make_node("Gather", ["places", "position_ids"], ["place"])
    return [word, place, helper.make_node("Add", ["word", "place"], ["x"])] if positions else [word]


def _concatenated() -> list[onnx.NodeProto]:
    """Attention written out; new keys and values follow the old ones in a tensor of their own."""
    return [*_by_head("q_heads", "k_heads"), *_seen(), *_attended()]


def _rotary() -> list[onnx.NodeProto]:
    """The same, queries and keys turned by their place in the cache."""
    angle = [
        helper.make_node("Cast", ["rows_down"], ["places_down"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["places_down", "speeds"], ["angle"]),
        helper.make_node("Cos", ["angle"], ["cos"]),
        helper.make_node("Sin", ["angle"], ["sin"]),
    ]
    turned = [node for name in "qk" for node in _turn(name)]
    return [*_by_head("q_still", "k_still"), *_seen(), *angle, *turned, *_attended()]


def _turn(name: str) -> list[onnx.NodeProto]:
    products = [
        helper.make_node("Mul", [f"{name}_{part}", function], [f"{name}_{part}_{function}"])
        for part in ("low", "high")
        for function in ("cos", "sin")
    ]
    return [
        helper.make_node("Split", [f"{name}_still"], [f"{name}_low", f"{name}_high"], axis=-1),
        *products,
        helper.make_node("Sub", [f"{name}_low_cos", f"{name}_high_sin"], [f"{name}_first"]),
        helper.make_node("Add", [f"{name}_low_sin", f"{name}_high_cos"], [f"{name}_second"]),
        helper.make_node("Concat", [f"{name}_first", f"{name}_second"], [f"{name}_heads"], axis=-1),
    ]


def _by_head(queries: str, keys: str) -> list[onnx.NodeProto]:
    return [
        node
        for name, out in zip("qkv", (queries, keys, "v_heads"), strict=True)
        for node in (
            helper.make_node("Reshape", [f"{name}_flat", "by_head"], [f"{name}_split"]),
            helper.make_node("Transpose", [f"{name}_split"], [out], perm=[0, 2, 1, 3]),
        )
    ]


def _attended() -> list[onnx.NodeProto]:
    joined = [
        helper.make_node("Concat", [f"past_key_values.0.{part}", f"{name}_heads"], [f"present.0.{part}"], axis=2)
        for part, name in zip(_PARTS, "kv", strict=True)
    ]
    return [
        *joined,
        helper.make_node("Transpose", ["present.0.key"], ["turned"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["q_heads", "turned"], ["raw"]),
        helper.make_node("Mul", ["raw", "scale"], ["scaled"]),
        helper.make_node("Where", ["seen", "scaled", "never"], ["weighed"]),
        helper.make_node("Softmax", ["weighed"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "present.0.value"], ["of_heads"]),
        helper.make_node("Transpose", ["of_heads"], ["of_tokens"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["of_tokens", "flat"], ["mixed"]),
    ]


def _seen() -> list[onnx.NodeProto]:
    """Which place each new token looks at: up to its own, and none that the mask leaves out."""
    return [
        helper.make_node("Shape", ["attention_mask"], ["total_1"], start=1, end=2),
        helper.make_node("Shape", ["input_ids"], ["new_1"], start=1, end=2),
        helper.make_node("Squeeze", ["total_1", "first_axis"], ["total"]),
        helper.make_node("Squeeze", ["new_1", "first_axis"], ["new"]),
        helper.make_node("Sub", ["total", "new"], ["before"]),
        helper.make_node("Range", ["zero", "total", "one"], ["columns"]),
        helper.make_node("Range", ["before", "total", "one"], ["rows"]),
        helper.make_node("Unsqueeze", ["rows", "second_axis"], ["rows_down"]),
        helper.make_node("LessOrEqual", ["columns", "rows_down"], ["causal"]),
        helper.make_node("Cast", ["attention_mask"], ["real"], to=TensorProto.BOOL),
        helper.make_node("Unsqueeze", ["real", "middle_axes"], ["real_wide"]),
        helper.make_node("And", ["causal", "real_wide"], ["seen"]),
    ]


def _grouped() -> list[onnx.NodeProto]:
    """GroupQueryAttention, which writes new keys and values behind the old ones."""
    cache = [f"past_key_values.0.{part}" for part in _PARTS]
    fused = helper.make_node(
        "GroupQueryAttention",
        ["q_flat", "k_flat", "v_flat", *cache, "last", "total_32"],
        ["mixed", *(f"present.0.{part}" for part in _PARTS)],
        domain="com.microsoft",
        num_heads=HEADS,
        kv_num_heads=HEADS,
    )
    return [
        helper.make_node("ReduceSum", ["attention_mask", "second_axis"], ["held"], keepdims=0),
        helper.make_node("Sub", ["held", "one"], ["last_64"]),
        helper.make_node("Cast", ["last_64"], ["last"], to=TensorProto.INT32),
        helper.make_node("Shape", ["attention_mask"], ["total_1"], start=1, end=2),
        helper.make_node("Squeeze", ["total_1", "first_axis"], ["total"]),
        helper.make_node("Cast", ["total"], ["total_32"], to=TensorProto.INT32),
        fused,
    ]


def _spec(name: str, kind: int, shape: list[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _save(
    file: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    limit: int | None = None,
) -> Path:
    constants: dict[str, Array] = {
        **weights(),
        "by_head": np.array([0, 0, HEADS, SIZE], np.int64),
        "flat": np.array([0, 0, HIDDEN], np.int64),
        "scale": np.array(SIZE**-0.5, np.float32),
        "speeds": SPEEDS,
        "never": np.array(-1e9, np.float32),
        "zero": np.array(0, np.int64),
        "one": np.array(1, np.int64),
        "first_axis": np.array([0], np.int64),
        "second_axis": np.array([1], np.int64),
        "middle_axes": np.array([1, 2], np.int64),
    }
    used = {name for node in nodes for name in node.input}
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items() if name in used]
    graph = helper.make_graph(nodes, "decoder", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=opsets), file)
    if limit is not None:
        write_limits(file, {"attention_mask": {"1": limit}})
    return file
