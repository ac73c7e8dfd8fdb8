"""Stored models of pictures with graphs of a few nodes, whose answers a test can compute."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from gpux.model.variant import CallSpec, GraphSpec, Manifest, Proof, StoredModel, TensorSpec

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64
NAMES = {FLOAT: "float32", INT: "int64"}
#: Colours [3, labels] -> logits.
WEIGHTS = np.array([[4.0, 0.0, 0.5], [0.0, 4.0, 0.5], [0.0, 0.0, 0.5]], np.float32)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "green", "this", "is", "a", "photo", "of", "."]
PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": 4, "width": 4},
    "image_mean": [0.0, 0.0, 0.0],
    "image_std": [1.0, 1.0, 1.0],
    "resample": 0,
}
Value = tuple[str, int, Sequence[Any]]
PIXELS: Value = ("pixel_values", FLOAT, ["batch", 3, 4, 4])
IDS: Value = ("input_ids", INT, ["texts", "tokens"])


def plain(red: int = 0, green: int = 0, blue: int = 0, size: tuple[int, int] = (6, 9)) -> NDArray[np.uint8]:
    """A picture [height, width, 3] of one colour."""
    return np.full((*size, 3), (red, green, blue), np.uint8)


def classifier(folder: Path, *, batch: int | str = "batch", scale: float = 1.0, **config: Any) -> StoredModel:
    """Logits are products of the mean colour and WEIGHTS."""
    nodes = [
        helper.make_node("ReduceMean", ["pixel_values", "axes"], ["colour"], keepdims=0),
        helper.make_node("MatMul", ["colour", "weights"], ["logits"]),
    ]
    width = WEIGHTS.shape[1]
    inputs, outputs = [(*PIXELS[:2], [batch, 3, 4, 4])], [("logits", FLOAT, [batch, width])]
    named = {"id2label": {"0": "red", "1": "green", "2": "grey"}}
    weights = {"axes": np.array([2, 3]), "weights": WEIGHTS * scale}
    return stored(folder, "image-classification", nodes, inputs, outputs, weights, {**named, **config})


def features(folder: Path, *, pooled: bool = True) -> StoredModel:
    """Vectors of 16 places with their 3 colours; pooled, the mean colour."""
    nodes = [
        helper.make_node("Reshape", ["pixel_values", "shape"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["last_hidden_state"], perm=[0, 2, 1]),
    ]
    outputs: list[Value] = [("last_hidden_state", FLOAT, ["batch", 16, 3])]
    weights = {"shape": np.array([0, 3, 16])}
    if pooled:
        nodes.append(helper.make_node("ReduceMean", ["pixel_values", "axes"], ["pooler_output"], keepdims=0))
        outputs.append(("pooler_output", FLOAT, ["batch", 3]))
        weights["axes"] = np.array([2, 3])
    return stored(folder, "feature-extraction", nodes, [PIXELS], outputs, weights, {"model_type": "vit"})


def compared(folder: Path, model_type: str = "clip") -> StoredModel:
    """Scores of texts: ten times the red of a picture for each word "red", and its green for each "green"."""
    table = np.zeros((len(WORDS), 3), np.float32)
    table[WORDS.index("red"), 0] = table[WORDS.index("green"), 1] = 10
    nodes = [
        helper.make_node("ReduceMean", ["pixel_values", "axes"], ["colour"], keepdims=0),
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("ReduceSum", ["words", "places"], ["sums"], keepdims=0),
        helper.make_node("Transpose", ["sums"], ["turned"]),
        helper.make_node("MatMul", ["colour", "turned"], ["logits_per_image"]),
    ]
    weights = {"axes": np.array([2, 3]), "places": np.array([1]), "table": table}
    outputs = [("logits_per_image", FLOAT, ["batch", "texts"])]
    config = {"model_type": model_type, "text_config": {"max_position_embeddings": 16}}
    return stored(folder, "zero-shot-image-classification", nodes, [IDS, PIXELS], outputs, weights, config, words=True)


def captions(folder: Path) -> StoredModel:
    """BLIP's form: the picture and the tokens so far in, scores of the next token out; no cache.

    It writes "a photo of", and then the colour that the picture has most of.
    """
    size = len(WORDS)
    follows, colours = np.zeros((size, size), np.float32), np.zeros((3, size), np.float32)
    for pair in ("[CLS] a", "a photo", "photo of", "red [SEP]", "green [SEP]"):
        first, second = map(WORDS.index, pair.split())
        follows[first, second] = 5
    colours[0, WORDS.index("red")] = colours[1, WORDS.index("green")] = 1
    nodes = [
        helper.make_node("ReduceMean", ["pixel_values", "axes"], ["colour"], keepdims=0),
        helper.make_node("MatMul", ["colour", "colours"], ["seen"]),
        helper.make_node("Unsqueeze", ["seen", "place"], ["everywhere"]),
        helper.make_node("Gather", ["follows", "input_ids"], ["next"]),
        helper.make_node("Add", ["next", "everywhere"], ["logits"]),
    ]
    weights = {"axes": np.array([2, 3]), "place": np.array([1]), "follows": follows, "colours": colours}
    outputs = [("logits", FLOAT, ["texts", "tokens", size])]
    text = {"bos_token_id": 2, "sep_token_id": 3, "pad_token_id": 0, "max_position_embeddings": 12}
    config = {"model_type": "blip", "text_config": text}
    return stored(folder, "image-to-text", nodes, [PIXELS, IDS], outputs, weights, config, words=True)


def same_picture(folder: Path) -> StoredModel:
    """A picture that is the input, with twice the light."""
    nodes = [helper.make_node("Add", ["pixel_values", "pixel_values"], ["reconstruction"])]
    outputs = [("reconstruction", FLOAT, ["batch", 3, 4, 4])]
    return stored(folder, "image-to-image", nodes, [PIXELS], outputs, {}, {"model_type": "swin2sr"})


def videos(folder: Path) -> StoredModel:
    """Labels of videos of three frames: red, green and blue, by the mean of each channel over the frames."""
    nodes = [helper.make_node("ReduceMean", ["pixel_values", "axes"], ["logits"], keepdims=0)]
    inputs = [("pixel_values", FLOAT, ["batch", 3, 3, "height", "width"])]
    config = {"model_type": "videomae", "num_frames": 3, "id2label": {"0": "red", "1": "green", "2": "blue"}}
    outputs, weights = [("logits", FLOAT, ["batch", 3])], {"axes": np.array([1, 3, 4])}
    made = stored(folder, "video-classification", nodes, inputs, outputs, weights, config)
    settings = {"image_processor_type": "VideoMAEImageProcessor", "size": 8, "crop_size": 8}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return made


def stored(
    folder: Path,
    task: str,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    weights: Mapping[str, NDArray[Any]],
    config: Mapping[str, Any],
    *,
    words: bool = False,
) -> StoredModel:
    """A variant with one graph and the files that its pipeline reads."""
    folder.mkdir(parents=True, exist_ok=True)
    graph = helper.make_graph(
        nodes,
        "pictures",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "model.onnx")
    (folder / "config.json").write_text(json.dumps(dict(config)), encoding="utf-8")
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR), encoding="utf-8")
    if words:
        _write_tokenizer(folder)
    specs = [
        tuple(TensorSpec(name, NAMES[kind], tuple(shape)) for name, kind, shape in side) for side in (inputs, outputs)
    ]
    manifest = Manifest(
        scheme="hf",
        id="tests/pictures",
        commit="0" * 40,
        task=task,
        precision="fp32",
        recipe="shipped",
        graphs=(GraphSpec("model", "model.onnx", *specs),),
        files=(),
        call_spec=CallSpec(),
        proof=Proof("shipped"),
        versions={},
    )
    return StoredModel(folder, manifest)


def _write_tokenizer(folder: Path) -> None:
    """Words between [CLS] and [SEP]."""
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(WORDS[:4])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    settings |= {"cls_token": "[CLS]", "sep_token": "[SEP]", "model_max_length": 16}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
