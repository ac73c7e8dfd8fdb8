"""A tiny ColBERT in the layouts that libraries write, and texts; ``scripts/update_late_goldens.py`` has the answers of
fastembed. This module imports no gpux: the script runs in an environment with fastembed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from safetensors.numpy import load_file, save

from tests.models.bert import bert_repository
from tests.models.cases import OTHER, SHORT, words
from tests.models.weights import draw

DIMENSION, MARKERS = 16, ("[unused0]", "[unused1]")
QUERIES = ["who wrote about the weather?", "a", "Paris!"]
DOCUMENTS = [OTHER, SHORT, words(40), "call me, tomorrow: before noon - don't", "."]
METADATA = {
    "query_maxlen": 32,
    "doc_maxlen": 60,
    "query_token_id": MARKERS[0],
    "doc_token_id": MARKERS[1],
    "mask_punctuation": True,
    "attend_to_mask_tokens": False,
    "dim": DIMENSION,
}
PYLATE = {
    "query_prefix": MARKERS[0],
    "document_prefix": MARKERS[1],
    "query_length": 32,
    "document_length": 60,
    "attend_to_expansion_tokens": False,
    "prompts": {},
    "similarity_fn_name": "MaxSim",
}


def head() -> np.ndarray[Any, Any]:
    """The linear head."""
    return draw("head", (DIMENSION, 32), 0)


def colbert_repository(folder: Path, layout: str) -> Path:
    """Write the model: ``graph`` has the head in its graph, ``stanford`` and ``pylate`` beside it.

    ``checkpoint`` has no graph, and the weights as stanford-futuredata/ColBERT writes them.
    """
    whole = layout == "checkpoint"
    bert_repository(folder, "feature-extraction", onnx=not whole, safetensors=whole)
    _name_markers(folder)
    if whole:
        _as_checkpoint(folder)
    if layout == "graph":
        _append_head(folder / "onnx" / "model.onnx")
    if layout == "pylate":
        modules = [("", "sentence_transformers.models.Transformer"), ("1_Dense", "pylate.models.Dense.Dense")]
        listed = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(modules)]
        _write(folder / "modules.json", listed)
        _write(folder / "config_sentence_transformers.json", PYLATE)
        _write(folder / "1_Dense" / "config.json", {"in_features": 32, "out_features": DIMENSION, "bias": False})
        (folder / "1_Dense" / "model.safetensors").write_bytes(save({"linear.weight": head()}))
    else:
        _write(folder / "artifact.metadata", METADATA)
    if layout == "stanford":
        (folder / "colbert_head.safetensors").write_bytes(save({"linear.weight": head()}))
    return folder


def _name_markers(folder: Path) -> None:
    """Give the last entries of the vocabulary the names of the markers."""
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    for name, index in zip(list(vocabulary)[-2:], MARKERS, strict=True):
        vocabulary[index] = vocabulary.pop(name)
    _write(folder / "tokenizer.json", content)


def _as_checkpoint(folder: Path) -> None:
    """Name the weights as in a model with a head, and add the head."""
    file = folder / "model.safetensors"
    weights = {f"bert.{name.removeprefix('bert.')}": array for name, array in load_file(file).items()}
    file.write_bytes(save({**weights, "linear.weight": head()}, metadata={"format": "pt"}))
    config = json.loads((folder / "config.json").read_text())
    _write(folder / "config.json", {**config, "architectures": ["HF_ColBERT"]})
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    lines = sorted(vocabulary, key=lambda token: int(vocabulary[token]))
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in lines))


def _append_head(file: Path) -> None:
    model = onnx.load(file)
    model.graph.initializer.append(numpy_helper.from_array(head().T.copy(), "head"))
    (before,) = model.graph.output
    model.graph.node.append(helper.make_node("MatMul", [before.name, "head"], ["contextual"]))
    after = helper.make_tensor_value_info("contextual", onnx.TensorProto.FLOAT, ["batch", "sequence", DIMENSION])
    del model.graph.output[:]
    model.graph.output.append(after)
    onnx.save(model, file)


def _write(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, ensure_ascii=False))
