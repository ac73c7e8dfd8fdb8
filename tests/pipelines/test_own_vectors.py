"""Graphs that compute the vector of a text themselves: encode() gives theirs, with and without modules.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

from gpux import pull_model
from gpux.errors import UnsupportedError
from gpux.model.variant import StoredModel
from gpux.pipelines.text.feature_extraction import FeatureExtractionPipeline
from gpux.runtime.session import Session
from gpux.runtime.token_outputs import SENTENCE_VECTORS, linear_layers
from tests.models.bert import bert_repository
from tests.models.cases import words
from tests.pipelines.conftest import Build, stored

TEXTS = [words(count) for count in (3, 9, 1, 0, 14)]
HIDDEN = 32
DENSE = np.random.default_rng(1).normal(size=(HIDDEN, HIDDEN)).astype(np.float32) * 0.3


def add_pooling(
    model: StoredModel,
    *,
    name: str = "sentence_embedding",
    dense: NDArray[Any] | None = DENSE,
    tokens: bool = True,
    width: int | str = HIDDEN,
) -> StoredModel:
    """Add the mean of the tokens, and a linear layer with tanh, as an output of rank 2."""
    file = model.path / "onnx" / "model.onnx"
    proto = onnx.load(file)
    graph = proto.graph
    hidden = next(node for node in graph.node if node.output[0] == "last_hidden_state").input[0]
    nodes = [
        helper.make_node("Cast", ["attention_mask"], ["own_mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["own_mask", "own_last"], ["own_wide"]),
        helper.make_node("Mul", [hidden, "own_wide"], ["own_kept"]),
        helper.make_node("ReduceSum", ["own_kept", "own_tokens"], ["own_sum"], keepdims=0),
        helper.make_node("ReduceSum", ["own_wide", "own_tokens"], ["own_count"], keepdims=0),
        helper.make_node("Div", ["own_sum", "own_count"], ["own_mean"]),
    ]
    constants = {"own_last": np.array([2], np.int64), "own_tokens": np.array([1], np.int64)}
    if dense is None:
        nodes.append(helper.make_node("Identity", ["own_mean"], [name]))
    else:
        constants["own_dense"] = dense
        nodes.append(helper.make_node("Transpose", ["own_dense"], ["own_turned"], perm=[1, 0]))
        nodes.append(helper.make_node("MatMul", ["own_mean", "own_turned"], ["own_linear"]))
        nodes.append(helper.make_node("Tanh", ["own_linear"], [name]))
    graph.node.extend(nodes)
    graph.initializer.extend(numpy_helper.from_array(array, key) for key, array in constants.items())
    if not tokens:
        del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch_size", width]))
    onnx.save(proto, file)
    return model


def graph_answers(model: StoredModel, pipe: FeatureExtractionPipeline, texts: list[str], name: str) -> NDArray[Any]:
    """What the graph gives for each text alone."""
    with Session(model.path / "onnx" / "model.onnx", device="cpu") as session:
        ids = [np.array([pipe.tokenizer.ids(text)]) for text in texts]
        feeds = [{"input_ids": one, "attention_mask": one**0, "token_type_ids": one * 0} for one in ids]
        return np.concatenate([session.run(feed, [name])[name] for feed in feeds])


@pytest.mark.parametrize("name", SENTENCE_VECTORS)
@pytest.mark.parametrize("tokens", [True, False])
def test_without_modules_the_graph_s_own_vectors(build: Build, name: str, tokens: bool) -> None:
    model = add_pooling(build(), name=name, tokens=tokens)
    with FeatureExtractionPipeline(model) as pipe:
        found = pipe.encode(TEXTS)
        assert found.dtype == np.float32 and found.shape == (len(TEXTS), pipe.dimension)
        assert np.allclose(found, graph_answers(model, pipe, TEXTS, name), atol=1e-5)
        assert np.allclose(pipe.answers(TEXTS), found, atol=1e-5)
        assert np.allclose(np.linalg.norm(pipe.encode(TEXTS, normalize=True), axis=1), 1, atol=1e-5)


def test_a_graph_of_text_vectors_only(build: Build) -> None:
    with FeatureExtractionPipeline(add_pooling(build(), name="whatever", tokens=False, width="dim")) as pipe:
        assert pipe.encode("fox").shape == (HIDDEN,) and pipe.dimension == HIDDEN
        assert pipe.encode([]).shape == (0, HIDDEN)
        with pytest.raises(UnsupportedError, match=r"vectors of whole texts only \(whatever\)") as caught:
            pipe("fox")
        assert caught.value.hint == "Call encode() for them."


@pytest.mark.parametrize("name", ["pooler_output", "logits"])
def test_outputs_that_are_no_text_vectors(build: Build, name: str) -> None:
    with FeatureExtractionPipeline(build(name="free")) as free:
        wanted = free.encode(TEXTS)
    with FeatureExtractionPipeline(add_pooling(build(), name=name)) as pipe:
        assert np.allclose(pipe.encode(TEXTS), wanted, atol=1e-5)  # the mean of the token vectors, as without it
    with pytest.raises(UnsupportedError, match=f"gives {name}, and feature-extraction needs") as caught:
        FeatureExtractionPipeline(add_pooling(build(name="alone"), name=name, tokens=False))
    assert caught.value.hint is not None and "gpux convert" in caught.value.hint


def test_scores_of_a_classifier_under_another_name(build: Build) -> None:
    model = add_pooling(build(), name="output_0", tokens=False)
    config = {**model.read_json("config.json"), "architectures": ["BertForSequenceClassification"]}
    (model.path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedError, match="gives output_0"):
        FeatureExtractionPipeline(model)


def dense_of(model: StoredModel) -> NDArray[Any]:
    weights: dict[str, Any] = load_file(model.path / "2_Dense" / "model.safetensors")
    return np.asarray(weights["linear.weight"])


@pytest.fixture
def with_modules(build: Build) -> Callable[..., StoredModel]:
    def make(name: str, **options: Any) -> StoredModel:
        settings = {"max_seq_length": 10, "dense": HIDDEN, "dense_bias": False, "normalize": True, **options}
        return build(name=name, sentence_transformers=settings)

    return make


@pytest.mark.parametrize("inside", [True, False])
def test_dense_modules_are_applied_once(with_modules: Callable[..., StoredModel], inside: bool) -> None:
    """Whether the graph includes them, or pools only."""
    with FeatureExtractionPipeline(with_modules("free")) as free:
        wanted = free.encode(TEXTS)
    model = with_modules("own")
    add_pooling(model, dense=dense_of(model) if inside else None)
    with FeatureExtractionPipeline(model) as pipe:
        assert pipe.max_seq_length == 10
        assert np.allclose(pipe.encode(TEXTS), wanted, atol=1e-5)
        assert np.allclose(np.linalg.norm(pipe.encode(TEXTS), axis=1), 1, atol=1e-5)


def test_modules_whose_files_are_missing_or_unknown(with_modules: Callable[..., StoredModel]) -> None:
    with FeatureExtractionPipeline(with_modules("free")) as free:
        wanted = free.encode(TEXTS)
    model = with_modules("own")
    add_pooling(model, dense=dense_of(model))
    (model.path / "2_Dense" / "model.safetensors").rename(model.path / "2_Dense" / "pytorch_model.bin")
    listed = json.loads((model.path / "modules.json").read_text())
    listed.insert(3, {"idx": 9, "name": "9", "path": "9_Own", "type": "their_package.Own"})
    (model.path / "modules.json").write_text(json.dumps(listed))
    with FeatureExtractionPipeline(model) as pipe:
        assert np.allclose(pipe.encode(TEXTS), wanted, atol=1e-5)


def test_prompts_and_limits_of_the_repository_apply(with_modules: Callable[..., StoredModel]) -> None:
    options = {"prompts": {"query": "the fox "}, "default_prompt_name": "query"}
    with FeatureExtractionPipeline(with_modules("free", **options)) as free:
        wanted = free.encode(TEXTS)
    model = with_modules("own", **options)
    with FeatureExtractionPipeline(add_pooling(model, dense=dense_of(model))) as pipe:
        assert np.allclose(pipe.encode(TEXTS), wanted, atol=1e-5)
        assert pipe.encode(TEXTS, truncate_dim=5).shape == (len(TEXTS), 5)


def test_a_prompt_that_is_not_pooled_needs_token_vectors(with_modules: Callable[..., StoredModel]) -> None:
    options = {"include_prompt": False, "prompts": {"query": "the fox "}}
    with FeatureExtractionPipeline(with_modules("free", **options)) as free:
        wanted, plain = free.encode(TEXTS, prompt_name="query"), free.encode(TEXTS)
    model = with_modules("own", **options)
    with FeatureExtractionPipeline(add_pooling(model, dense=dense_of(model))) as pipe:
        assert np.allclose(pipe.encode(TEXTS, prompt_name="query"), wanted, atol=1e-5)
    model = with_modules("alone", **options)
    with FeatureExtractionPipeline(add_pooling(model, dense=dense_of(model), tokens=False)) as pipe:
        with pytest.raises(UnsupportedError, match="does not pool the tokens of a prompt") as caught:
            pipe.encode(TEXTS, prompt_name="query")
        assert caught.value.hint == "Give texts without a prompt: encode(texts, prompt='')."
        assert np.allclose(pipe.encode(TEXTS, prompt=""), plain, atol=1e-5)


def test_linear_layers_between_two_values(build: Build) -> None:
    file = add_pooling(build()).path / "onnx" / "model.onnx"
    assert linear_layers(file, "last_hidden_state", "sentence_embedding") == 1
    assert linear_layers(file, "own_linear", "sentence_embedding") == 0
    assert linear_layers(file, "sentence_embedding", "last_hidden_state") is None


@pytest.mark.parametrize("tokens", [True, False])
def test_a_repository_that_ships_such_a_graph_is_pulled(tmp_path: Path, tokens: bool) -> None:
    folder = bert_repository(tmp_path / "shipped", "feature-extraction", onnx=True, safetensors=False)
    add_pooling(stored(folder, "feature-extraction"), tokens=tokens)
    with FeatureExtractionPipeline(pull_model(folder)) as pipe:
        assert pipe.encode(TEXTS).shape == (len(TEXTS), HIDDEN)
        assert len(pipe.answers(["fox"])[0]) == HIDDEN
