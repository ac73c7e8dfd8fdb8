"""A stored encoder-decoder of a few nodes, whose answers a test can read: the letter that a text has most of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gpux.model.variant import CallSpec, GraphSpec, Manifest, Proof, StoredModel
from tests.pipelines.writer import BOS, EOS, tokenizer

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64


def summarizer(folder: Path) -> StoredModel:
    """The variant, written into a folder; tokens are the characters of :mod:`tests.pipelines.writer`."""
    folder.mkdir(parents=True, exist_ok=True)
    coder = tokenizer()
    size = coder.get_vocab_size()
    _save(
        folder / "encoder.onnx",
        [
            helper.make_node("Gather", ["letters", "input_ids"], ["letter"]),
            helper.make_node("Cast", ["attention_mask"], ["read"], to=FLOAT),
            helper.make_node("Unsqueeze", ["read", "last"], ["weight"]),
            helper.make_node("Mul", ["letter", "weight"], ["last_hidden_state"]),
        ],
        {"input_ids": (INT, ["rows", "places"]), "attention_mask": (INT, ["rows", "places"])},
        {"last_hidden_state": (FLOAT, ["rows", "places", size])},
        {"letters": np.eye(size, dtype=np.float32), "last": np.array([2])},
    )
    cache: list[int | str] = ["rows", 1, "past", 1]
    nodes = [
        helper.make_node("ReduceSum", ["encoder_hidden_states", "axis"], ["counts"], keepdims=1),
        helper.make_node("Gather", ["nothing", "input_ids"], ["next"]),
        helper.make_node("Add", ["next", "counts"], ["logits"]),
        helper.make_node("Cast", ["input_ids"], ["numbers"], to=FLOAT),
        helper.make_node("Unsqueeze", ["numbers", "around"], ["entry"]),
        helper.make_node("Concat", ["past_key_values.0.decoder.key", "entry"], ["present.0.decoder.key"], axis=2),
    ]
    _save(
        folder / "decoder.onnx",
        nodes,
        {
            "input_ids": (INT, ["rows", "tokens"]),
            "encoder_hidden_states": (FLOAT, ["rows", "places", size]),
            "past_key_values.0.decoder.key": (FLOAT, cache),
        },
        {"logits": (FLOAT, ["rows", "tokens", size]), "present.0.decoder.key": (FLOAT, ["rows", 1, "all", 1])},
        {"axis": np.array([1]), "around": np.array([1, 3]), "nothing": np.zeros((size, size), np.float32)},
    )
    coder.save(str(folder / "tokenizer.json"))
    config = {"model_type": "t5", "is_encoder_decoder": True, "decoder_start_token_id": BOS, "eos_token_id": EOS}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    manifest = Manifest(
        scheme="hf",
        id="tests/summarizer",
        commit="0" * 40,
        task="text2text-generation",
        precision="fp32",
        recipe="optimum",
        graphs=tuple(GraphSpec(name, f"{name}.onnx", (), ()) for name in ("encoder", "decoder")),
        files=(),
        call_spec=CallSpec(),
        proof=Proof("proven"),
        versions={},
    )
    return StoredModel(folder, manifest)


def _save(
    file: Path,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, list[int | str]]],
    outputs: dict[str, tuple[int, list[int | str]]],
    weights: dict[str, NDArray[np.generic]],
) -> None:
    graph = helper.make_graph(
        nodes,
        file.stem,
        [helper.make_tensor_value_info(name, *value) for name, value in inputs.items()],
        [helper.make_tensor_value_info(name, *value) for name, value in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, file)
