"""The ONNX graph of a BERT, built from its weights, with Optimum's names for inputs and outputs.

Opset 17 (LayerNormalization) and IR version 8: every onnxruntime from 1.14 on loads it.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

from tests.models.weights import Array

OPSET, IR_VERSION = 17, 8
TASK_OF = {
    "BertModel": "feature-extraction",
    "BertForSequenceClassification": "text-classification",
    "BertForMaskedLM": "fill-mask",
    "BertForTokenClassification": "token-classification",
    "BertForQuestionAnswering": "question-answering",
}
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
BATCH, SEQUENCE = "batch_size", "sequence_length"


def export_bert(source: Path, dest: Path, *, external_data: bool = False) -> Path:
    """Read config.json and model.safetensors of `source`, write the graph to `dest` (a .onnx file)."""
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    return save_onnx(bert_graph(config, load_file(source / "model.safetensors")), dest, external_data=external_data)


def save_onnx(model: onnx.ModelProto, dest: Path, *, external_data: bool = False) -> Path:
    """Write `dest` atomically; the weights go to "<dest>_data" with `external_data`."""
    dest.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=dest.parent) as folder:
        temporary, data = Path(folder) / dest.name, f"{dest.name}_data"
        if external_data:  # a location is relative to the model, so it survives the move
            onnx.save_model(model, temporary, save_as_external_data=True, location=data, size_threshold=256)
            (Path(folder) / data).replace(dest.parent / data)
        else:
            onnx.save_model(model, temporary)
        temporary.replace(dest)
    return dest


def bert_graph(config: Mapping[str, Any], weights: Mapping[str, Array]) -> onnx.ModelProto:
    """The graph of the first architecture in `config`: int64 [batch, sequence] in, float32 out."""
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise ValueError("only absolute positions are supported")
    task = TASK_OF[config["architectures"][0]]
    prefix = "bert." if any(name.startswith("bert.") for name in weights) else ""
    build = _Builder(weights)
    hidden = _encoder(build, config, prefix)
    shape: list[str | int] = [BATCH, SEQUENCE, config["hidden_size"]]
    if task == "text-classification":
        output, shape = _classifier(build, hidden, prefix), [BATCH, weights["classifier.bias"].shape[0]]
    elif task == "fill-mask":
        output, shape = _language_head(build, config, hidden), [BATCH, SEQUENCE, config["vocab_size"]]
    elif task == "token-classification":
        output, shape = build.linear(hidden, "classifier"), [BATCH, SEQUENCE, weights["classifier.bias"].shape[0]]
    elif task == "question-answering":
        both = build.linear(hidden, "qa_outputs")
        places = [build.constant(name, np.array(place, np.int64)) for place, name in enumerate(("start", "end"))]
        columns = [build.op("Gather", both, place, axis=2) for place in places]
        return build.model(dict(zip(("start_logits", "end_logits"), columns, strict=True)), [BATCH, SEQUENCE])
    else:
        output = hidden
    return build.model({"last_hidden_state" if task == "feature-extraction" else "logits": output}, shape)


class _Builder:
    """Collects nodes and weights; `op` returns the name of a node's output."""

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(value.copy(order="C"), name)
        return name

    def ints(self, *values: int) -> str:
        return self.constant("ints_" + "_".join(map(str, values)), np.array(values, np.int64))

    def scalar(self, value: float) -> str:
        return self.constant(f"scalar_{value!r}", np.array(value, np.float32))

    def weight(self, name: str) -> str:
        return self.constant(name, self.weights[name])

    def linear(self, value: str, name: str) -> str:
        """x @ W.T + b, with W stored transposed as exporters do, so that the graph needs no transposition."""
        matrix = self.constant(f"{name}.weight_transposed", self.weights[f"{name}.weight"].T)
        return self.op("Add", self.op("MatMul", value, matrix), self.weight(f"{name}.bias"))

    def norm(self, value: str, name: str, epsilon: float) -> str:
        scale, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.op("LayerNormalization", value, scale, bias, axis=-1, epsilon=epsilon)

    def model(self, values: Mapping[str, str], shape: Sequence[str | int]) -> onnx.ModelProto:
        """The model with outputs of one shape, by their names."""
        for number, (name, value) in enumerate(values.items()):
            self.nodes.append(helper.make_node("Identity", [value], [name], name=f"output{number or ''}"))
        inputs = [helper.make_tensor_value_info(i, TensorProto.INT64, [BATCH, SEQUENCE]) for i in INPUTS]
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name in values]
        graph = helper.make_graph(self.nodes, "bert", inputs, outputs, list(self.constants.values()))
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="bert_onnx")


def _encoder(build: _Builder, config: Mapping[str, Any], prefix: str) -> str:
    value = _embeddings(build, config, f"{prefix}embeddings")
    seen = build.op("Cast", "attention_mask", to=TensorProto.FLOAT)
    unseen = build.op("Sub", build.scalar(1.0), seen)
    lowest = build.scalar(float(np.finfo(np.float32).min))
    mask = build.op("Unsqueeze", build.op("Mul", unseen, lowest), build.ints(1, 2))
    for layer in range(config["num_hidden_layers"]):
        value = _layer(build, config, value, mask, f"{prefix}encoder.layer.{layer}")
    return value


def _embeddings(build: _Builder, config: Mapping[str, Any], name: str) -> str:
    words = build.op("Gather", build.weight(f"{name}.word_embeddings.weight"), "input_ids")
    types = build.op("Gather", build.weight(f"{name}.token_type_embeddings.weight"), "token_type_ids")
    table = build.weight(f"{name}.position_embeddings.weight")
    length = build.op("Shape", "input_ids", start=1, end=2)
    positions = build.op("Slice", table, build.ints(0), length, build.ints(0))
    value = build.op("Add", build.op("Add", words, types), positions)
    return build.norm(value, f"{name}.LayerNorm", config["layer_norm_eps"])


def _layer(build: _Builder, config: Mapping[str, Any], value: str, mask: str, name: str) -> str:
    epsilon = config["layer_norm_eps"]
    attended = build.linear(_attention(build, config, value, mask, name), f"{name}.attention.output.dense")
    value = build.norm(build.op("Add", attended, value), f"{name}.attention.output.LayerNorm", epsilon)
    inner = _activation(build, build.linear(value, f"{name}.intermediate.dense"), config["hidden_act"])
    outer = build.linear(inner, f"{name}.output.dense")
    return build.norm(build.op("Add", outer, value), f"{name}.output.LayerNorm", epsilon)


def _attention(build: _Builder, config: Mapping[str, Any], value: str, mask: str, name: str) -> str:
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    split = build.ints(0, 0, heads, hidden // heads)  # 0 keeps the input's own batch and sequence

    def project(part: str, perm: list[int]) -> str:
        projected = build.linear(value, f"{name}.attention.self.{part}")
        return build.op("Transpose", build.op("Reshape", projected, split), perm=perm)

    scores = build.op("MatMul", project("query", [0, 2, 1, 3]), project("key", [0, 2, 3, 1]))
    scaled = build.op("Mul", scores, build.scalar(1.0 / math.sqrt(hidden // heads)))
    weights = build.op("Softmax", build.op("Add", scaled, mask), axis=-1)
    mixed = build.op("MatMul", weights, project("value", [0, 2, 1, 3]))
    return build.op("Reshape", build.op("Transpose", mixed, perm=[0, 2, 1, 3]), build.ints(0, 0, hidden))


def _activation(build: _Builder, value: str, kind: str) -> str:
    if kind == "relu":
        return build.op("Relu", value)
    if kind == "gelu":
        gate = build.op("Erf", build.op("Mul", value, build.scalar(math.sqrt(0.5))))
    elif kind in ("gelu_new", "gelu_pytorch_tanh"):
        cube = build.op("Mul", build.op("Mul", value, value), value)
        inner = build.op("Add", value, build.op("Mul", cube, build.scalar(0.044715)))
        gate = build.op("Tanh", build.op("Mul", inner, build.scalar(math.sqrt(2.0 / math.pi))))
    else:
        raise ValueError(f"unknown activation {kind!r}")
    half = build.op("Mul", value, build.scalar(0.5))
    return build.op("Mul", half, build.op("Add", gate, build.scalar(1.0)))


def _classifier(build: _Builder, hidden: str, prefix: str) -> str:
    first = build.op("Gather", hidden, build.constant("first", np.array(0, np.int64)), axis=1)
    pooled = build.op("Tanh", build.linear(first, f"{prefix}pooler.dense"))
    return build.linear(pooled, "classifier")


def _language_head(build: _Builder, config: Mapping[str, Any], hidden: str) -> str:
    name = "cls.predictions"
    value = _activation(build, build.linear(hidden, f"{name}.transform.dense"), config["hidden_act"])
    value = build.norm(value, f"{name}.transform.LayerNorm", config["layer_norm_eps"])
    table = build.weight("bert.embeddings.word_embeddings.weight")  # tied: one copy in the file
    scores = build.op("MatMul", value, build.op("Transpose", table, perm=[1, 0]))
    return build.op("Add", scores, build.weight(f"{name}.bias"))
