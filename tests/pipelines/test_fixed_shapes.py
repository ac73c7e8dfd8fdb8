"""Graphs for fixed shapes: a batch of one or of four, a length of twelve; and padding that would change an answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gpux.errors import InputError
from gpux.model.variant import StoredModel
from gpux.pipelines.text.feature_extraction import FeatureExtractionPipeline
from gpux.pipelines.text.fill_mask import FillMaskPipeline
from gpux.pipelines.text.text_classification import TextClassificationPipeline
from tests.models.cases import words
from tests.pipelines.conftest import Build, stored
from tests.pipelines.test_decoder_embeddings import write_words

TEXTS = [words(count) for count in (3, 1, 7, 10, 0, 5)]
LENGTH = 12
SHAPES = [(1, None), (4, None), (None, LENGTH), (1, LENGTH), (4, LENGTH)]


def fix(model: StoredModel, batch: int | None, length: int | None, *, without: str = "") -> StoredModel:
    """Declare sizes in place of the names of axes, also of the output, and remove an input."""
    file = model.path / "onnx" / "model.onnx"
    proto = onnx.load(file)
    for value in (*proto.graph.input, *proto.graph.output):
        for axis, size in enumerate((batch, length)):
            dims = value.type.tensor_type.shape.dim
            if size is not None and dims[axis].dim_param:
                dims[axis].dim_value = size
    if without:
        proto.graph.input.remove(next(value for value in proto.graph.input if value.name == without))
        shape = helper.make_node("Shape", ["input_ids"], ["shape_of_ids"])
        one = numpy_helper.from_array(np.ones(1, np.int64))
        proto.graph.node.insert(0, helper.make_node("ConstantOfShape", ["shape_of_ids"], [without], value=one))
        proto.graph.node.insert(0, shape)
    onnx.save(proto, file)
    return model


@pytest.mark.parametrize(("batch", "length"), SHAPES)
def test_vectors(build: Build, batch: int | None, length: int | None) -> None:
    with FeatureExtractionPipeline(build(name="free")) as free:
        vectors, tokens = free.encode(TEXTS), free(TEXTS, return_arrays=True)
    with FeatureExtractionPipeline(fix(build(name="fixed"), batch, length)) as fixed:
        assert np.allclose(fixed.encode(TEXTS), vectors, atol=1e-5)
        assert np.allclose([fixed.encode(text) for text in TEXTS], vectors, atol=1e-5)
        for found, wanted in zip(fixed(TEXTS, return_arrays=True), tokens, strict=True):
            assert found.shape == wanted.shape and np.allclose(found, wanted, atol=1e-5)
        if length is not None:
            assert fixed.max_seq_length == length


@pytest.mark.parametrize(("batch", "length"), SHAPES)
def test_labels_and_masks(build: Build, batch: int | None, length: int | None) -> None:
    masked = [f"{text} [MASK]" for text in TEXTS[:3]]
    for task, kind, texts in (
        ("text-classification", TextClassificationPipeline, TEXTS),
        ("fill-mask", FillMaskPipeline, masked),
    ):
        with kind(build(task, name=f"free-{task}")) as free, kind(fix(build(task, name=task), batch, length)) as fixed:
            wanted = [_scores(answer) for answer in free.answers(texts)]
            assert np.allclose([_scores(answer) for answer in fixed.answers(texts)], wanted, atol=1e-5)


def _scores(answer: Any) -> list[float]:
    return [entry["score"] for entry in (answer if isinstance(answer, list) else [answer])]


def test_a_text_beyond_the_fixed_length_is_cut_or_refused(build: Build) -> None:
    with FeatureExtractionPipeline(fix(build(), None, LENGTH)) as pipe:
        assert np.allclose(pipe.encode(words(30)), pipe.encode(words(LENGTH - 2)), atol=1e-5)
        with pytest.raises(InputError, match="text 1 has 32 tokens, and the limit is 12"):
            pipe.encode(["fox", words(30)], truncation=False)


def test_a_fixed_length_without_a_mask_takes_texts_of_this_length_only(build: Build) -> None:
    exact = [words(LENGTH - 2), words(30)]
    with FeatureExtractionPipeline(build(name="free")) as free:
        wanted = free.encode(exact, max_length=LENGTH)
    with FeatureExtractionPipeline(fix(build(), 1, LENGTH, without="attention_mask")) as pipe:
        assert np.allclose(pipe.encode(exact), wanted, atol=1e-5)
        with pytest.raises(InputError, match="text 1 has 5 tokens, and the graph of tests/tiny-bert reads exactly 12"):
            pipe.encode([exact[0], words(3)])


def test_a_batch_without_a_mask_holds_texts_of_one_length(build: Build) -> None:
    with FeatureExtractionPipeline(fix(build(), None, None, without="attention_mask")) as pipe:
        assert np.allclose(pipe.encode(TEXTS + TEXTS)[6:], [pipe.encode(text) for text in TEXTS], atol=1e-5)


# -- classifiers that score the last token -----------------------------------------------------------------------------


def classifier(folder: Path, *, pad: int | None, tokenizer_pad: str = "w0", model_type: str = "llama") -> StoredModel:
    """Scores the word of each text's last token that is not ``pad``; without ``pad``, the last of the row."""
    rng = np.random.default_rng(0)
    constants = {
        "words": rng.normal(size=(48, 3)).astype(np.float32),
        "one": np.ones(1, np.int64),
        "pad": np.array(pad or 0, np.int64),
        "axis": np.array([1], np.int64),
    }
    find = [
        helper.make_node("Equal", ["input_ids", "pad"], ["is_pad"]),
        helper.make_node("Not", ["is_pad"], ["is_token"]),
        helper.make_node("Cast", ["is_token"], ["kept"], to=TensorProto.INT64),
        helper.make_node("CumSum", ["kept", "axis_0"], ["counted"]),
        helper.make_node("ArgMax", ["counted"], ["place"], axis=1, keepdims=1),
    ]
    last = [
        helper.make_node("Shape", ["input_ids"], ["width"], start=1, end=2),
        helper.make_node("Sub", ["width", "one"], ["end"]),
        helper.make_node("Shape", ["input_ids"], ["rows"], start=0, end=1),
        helper.make_node("Concat", ["rows", "one"], ["shape"], axis=0),
        helper.make_node("Expand", ["end", "shape"], ["place"]),
    ]
    constants["axis_0"] = np.array(1, np.int64)
    nodes = [
        *(last if pad is None else find),
        helper.make_node("GatherElements", ["input_ids", "place"], ["chosen"], axis=1),
        helper.make_node("Squeeze", ["chosen", "axis"], ["token"]),
        helper.make_node("Gather", ["words", "token"], ["logits"]),
    ]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "classifier",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(array, name) for name, array in constants.items() if name in used],
    )
    (folder / "onnx").mkdir(parents=True)
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, folder / "onnx" / "model.onnx")
    write_words(folder, pad=tokenizer_pad)
    config = {"model_type": model_type, "architectures": ["LlamaForSequenceClassification"], "num_labels": 3}
    (folder / "config.json").write_text(json.dumps({**config, **({} if pad is None else {"pad_token_id": pad})}))
    return stored(folder, "text-classification")


@pytest.mark.parametrize(
    ("pad", "tokenizer_pad", "model_type"),
    [(0, "w0", "llama"), (7, "w0", "llama"), (3, "w9", "mistral"), (None, "w0", "qwen2"), (None, "w0", "xlnet")],
)
def test_a_batch_scores_the_last_token_of_each_text(
    tmp_path: Path, pad: int | None, tokenizer_pad: str, model_type: str
) -> None:
    """Whatever the tokenizer pads with, and where the configuration has no padding token."""
    texts = ["w5 w9 w2", "w8", "w1 w2 w4 w4 w5", "w30 w31 w9 w40", "w11 w12 w20"]
    model = classifier(tmp_path, pad=pad, tokenizer_pad=tokenizer_pad, model_type=model_type)
    with TextClassificationPipeline(model, top_k=None, function_to_apply="none") as pipe:
        single = [pipe(text) for text in texts]
        assert pipe(texts) == [answer[0] for answer in single]
        assert len({answer[0][0]["score"] for answer in single}) == len(texts)
