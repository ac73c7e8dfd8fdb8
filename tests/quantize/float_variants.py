"""Hand-made float32 variants with difficult parts: tied weights, branches, caches, external data, overflows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper

from gpux.convert.reference_case import Call, ReferenceCase, write_case
from gpux.model.variant import CallSpec, GraphSpec, Manifest, Proof, ProofCase, StoredFile, StoredModel
from gpux.proof.cases import with_outputs_of
from gpux.runtime.graphs import Graphs
from gpux.runtime.limits import write_limits

ROWS, WIDTH = 2048, 64
LIMIT = {"input_ids": {"1": 100}}


def weight(name: str, *shape: int, scale: float = 1.0, seed: int = 0) -> onnx.TensorProto:
    values = np.random.default_rng([seed, *name.encode()]).standard_normal(shape) * scale / np.sqrt(shape[-1])
    return numpy_helper.from_array(values.astype(np.float32), name)


def decoder() -> onnx.ModelProto:
    """Embedding, a root mean square norm, a branch with a layer in each arm, a cache, a head tied to the embedding."""
    arm = [
        h.make_graph(
            [h.make_node("MatMul", ["normed", name], [f"{name}_out"])],
            name,
            [],
            [h.make_tensor_value_info(f"{name}_out", T.FLOAT, None)],
            [weight("inner", WIDTH, WIDTH)] if name == "inner" else [],
        )
        for name in ("outer", "inner")
    ]
    nodes = [
        h.make_node("Gather", ["embedding", "input_ids"], ["x"]),
        h.make_node("Constant", [], ["two"], value_float=2.0),
        h.make_node("Constant", [], ["epsilon"], value_float=1e-12),
        h.make_node("Pow", ["x", "two"], ["square"]),
        h.make_node("ReduceMean", ["square"], ["mean"], axes=[-1], keepdims=1),
        h.make_node("Add", ["mean", "epsilon"], ["safe"]),
        h.make_node("Sqrt", ["safe"], ["root"]),
        h.make_node("Div", ["x", "root"], ["normed"]),
        h.make_node("If", ["use_cache_branch"], ["chosen"], then_branch=arm[0], else_branch=arm[1]),
        h.make_node("Unsqueeze", ["chosen", "one"], ["heads"]),
        h.make_node("Concat", ["past.0.key", "heads"], ["present.0.key"], axis=2),
        h.make_node("ReduceSum", ["present.0.key", "middle"], ["seen"], keepdims=1),
        h.make_node("Squeeze", ["seen", "one"], ["summary"]),
        h.make_node("Add", ["chosen", "summary"], ["mixed"]),
        h.make_node("Reshape", ["mixed", "flat"], ["rows"]),
        h.make_node("Gemm", ["rows", "dense", "bias"], ["dense_out"], transB=1),
        h.make_node("Shape", ["mixed"], ["shape"]),
        h.make_node("Reshape", ["dense_out", "shape"], ["last"]),
        h.make_node("Transpose", ["embedding"], ["turned"], perm=[1, 0]),
        h.make_node("MatMul", ["last", "turned"], ["logits"]),
    ]
    integers = {"one": [1], "middle": [2], "flat": [-1, WIDTH]}
    weights = [
        weight("embedding", ROWS, WIDTH),
        weight("outer", WIDTH, WIDTH),
        weight("dense", WIDTH, WIDTH),
    ]
    weights += [weight("bias", WIDTH), *(numpy_helper.from_array(np.array(v), k) for k, v in integers.items())]
    inputs = [
        h.make_tensor_value_info("input_ids", T.INT64, ["batch", "tokens"]),
        h.make_tensor_value_info("use_cache_branch", T.BOOL, [1]),
        h.make_tensor_value_info("past.0.key", T.FLOAT, ["batch", 1, "past", WIDTH]),
    ]
    outputs = [
        h.make_tensor_value_info("logits", T.FLOAT, ["batch", "tokens", ROWS]),
        h.make_tensor_value_info("present.0.key", T.FLOAT, ["batch", 1, "total", WIDTH]),
    ]
    return _model(nodes, inputs, outputs, weights)


def encoder(*, scale: float = 1.0, outlier: float = 1.0) -> onnx.ModelProto:
    """Two layers that share their input, and one on top; ``outlier`` times one feature in between."""
    stretch = np.ones(WIDTH, np.float32)
    stretch[0] = outlier
    nodes = [
        h.make_node("MatMul", ["x", "a"], ["ax"]),
        h.make_node("MatMul", ["x", "b"], ["bx"]),
        h.make_node("Add", ["ax", "bx"], ["sum"]),
        h.make_node("Mul", ["sum", "stretch"], ["stretched"]),
        h.make_node("MatMul", ["stretched", "c"], ["logits"]),
    ]
    last = numpy_helper.to_array(weight("c", WIDTH, WIDTH)) / stretch[:, None]
    weights = [weight("a", WIDTH, WIDTH, scale=scale), weight("b", WIDTH, WIDTH), numpy_helper.from_array(last, "c")]
    weights.append(numpy_helper.from_array(stretch, "stretch"))
    inputs = [h.make_tensor_value_info("x", T.FLOAT, ["batch", "tokens", WIDTH])]
    return _model(nodes, inputs, [h.make_tensor_value_info("logits", T.FLOAT, None)], weights)


def convolution() -> onnx.ModelProto:
    nodes = [h.make_node("Conv", ["x", "kernel"], ["logits"])]
    inputs = [h.make_tensor_value_info("x", T.FLOAT, ["batch", 8, 9, 9])]
    return _model(nodes, inputs, [h.make_tensor_value_info("logits", T.FLOAT, None)], [weight("kernel", 8, 8, 5, 5)])


def _model(
    nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], weights: Sequence[Any]
) -> onnx.ModelProto:
    graph = h.make_graph(nodes, "tiny", inputs, outputs, weights)
    return h.make_model(graph, opset_imports=[h.make_opsetid("", 13)], ir_version=8)


def stored(folder: Path, model: onnx.ModelProto, calls: tuple[Call, ...], *, external: bool = False) -> StoredModel:
    """The model as a variant with one kept case, whose reference is the model's own outputs."""
    folder.mkdir(parents=True, exist_ok=True)
    place = {"save_as_external_data": True, "location": "model.onnx_data", "size_threshold": 1024} if external else {}
    onnx.save(model, folder / "model.onnx", **place)
    if any("input_ids" in call.inputs for call in calls):
        write_limits(folder / "model.onnx", LIMIT)
    with Graphs(folder, {"model": "model.onnx"}) as graphs:
        session = graphs.session("model")
        spec = GraphSpec("model", "model.onnx", tuple(session.inputs), tuple(session.outputs))
        case = with_outputs_of(ReferenceCase("case", calls), graphs.run)
    write_case(case, folder / "proof" / "case.npz")
    files = tuple(StoredFile(file.name, file.stat().st_size, "") for file in folder.iterdir() if file.is_file())
    proof = Proof("proven", (ProofCase("case", {}, 0.0, 1e-4, kept=True),))
    return StoredModel(
        folder, Manifest("local", "tiny", "0" * 40, "t", "fp32", "x", (spec,), files, CallSpec(), proof, {})
    )


def decoder_calls() -> tuple[Call, ...]:
    """A prompt of six tokens, then one token on its cache, through the other branch."""
    outputs = {"logits": np.zeros(0), "present.0.key": np.zeros(0)}
    ids = np.random.default_rng(1).integers(0, ROWS, (2, 7))
    past = np.zeros((2, 1, 0, WIDTH), np.float32)
    prompt = {"input_ids": ids[:, :6], "use_cache_branch": np.zeros(1, bool), "past.0.key": past}
    step = {"input_ids": ids[:, 6:], "use_cache_branch": np.ones(1, bool)}
    return Call("model", prompt, outputs), Call("model", step, outputs, {"past.0.key": (0, "present.0.key")})


def float_calls(*shape: int) -> tuple[Call, ...]:
    values = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    return (Call("model", {"x": values}, {"logits": np.zeros(0)}),)


Opened = Callable[[Path, Any], Graphs]
