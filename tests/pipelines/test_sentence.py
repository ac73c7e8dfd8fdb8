"""modules.json and its companion files: supported contents, and refused ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from gpux.errors import CorruptFileError, UnsupportedError
from gpux.model.variant import StoredModel
from gpux.pipelines.text.feature_extraction import FeatureExtractionPipeline
from gpux.pipelines.text.sentence import (
    MODES,
    Dense,
    Dropout,
    LayerNorm,
    Normalize,
    read_floats,
    read_sentence_config,
    transformer_folder,
)
from tests.models.cases import SENTENCES
from tests.pipelines.conftest import Build

NEW_NAMES = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "Dense": "sentence_transformers.base.modules.dense.Dense",
    "Normalize": "sentence_transformers.sentence_transformer.modules.normalize.Normalize",
}


def write(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def modules(model: StoredModel) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((model.path / "modules.json").read_text())
    return found


def test_names_of_version_5(build: Build) -> None:
    model = build(sentence_transformers={"dense": 8, "normalize": True})
    with FeatureExtractionPipeline(model) as pipe:
        wanted = pipe.encode(SENTENCES)
    listed = [{**module, "type": NEW_NAMES[module["type"].rpartition(".")[2]]} for module in modules(model)]
    write(model.path / "modules.json", listed)
    write(model.path / "1_Pooling" / "config.json", {"embedding_dimension": 32, "pooling_mode": "mean"})
    write(model.path / "sentence_bert_config.json", {"transformer_task": "feature-extraction", "max_seq_length": 32})
    with FeatureExtractionPipeline(model) as pipe:
        assert np.array_equal(pipe.encode(SENTENCES), wanted)


@pytest.mark.parametrize(
    "reference",
    [
        "sentence_transformers.models.WordWeights",
        "sentence_transformers.models.LSTM",
        "sentence_transformers.sparse_encoder.modules.splade_pooling.SpladePooling",
        "custom_pooling.Pooling",
        "sentence_transformers.evil.Pooling",
    ],
)
def test_an_unsupported_module_is_refused_and_token_vectors_remain(build: Build, reference: str) -> None:
    model = build(sentence_transformers={})
    write(model.path / "modules.json", [*modules(model), {"idx": 2, "name": "2", "path": "2", "type": reference}])
    with FeatureExtractionPipeline(model) as pipe:
        with pytest.raises(UnsupportedError, match=f"names {reference}") as caught:
            pipe.encode("fox")
        assert caught.value.hint is not None and "feature-extraction" in caught.value.hint
        assert len(pipe("fox")[0]) == 3


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ((0,), "no module pools"),
        ((1, 0), "module 0 is Pooling"),
        ((0, 2, 1), "Normalize comes before"),
        ((0, 1, 1), "twice"),
    ],
)
def test_invalid_orders_of_modules(build: Build, order: tuple[int, ...], message: str) -> None:
    model = build(sentence_transformers={"normalize": True})
    listed = modules(model)
    write(model.path / "modules.json", [listed[index] for index in order])
    with pytest.raises(UnsupportedError, match=message):
        read_sentence_config(model)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("1_Pooling/config.json", {"pooling_mode": "attention"}, "pools by attention"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "runs fill-mask"),
        ("sentence_bert_config.json", {"modality_config": {"text": {}, "message": {}}}, "text, message"),
        ("sentence_bert_config.json", {"processing_kwargs": {"text": {"padding": "max_length"}}}, "processing_kwargs"),
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "SparseEncoder"),
    ],
)
def test_unsupported_options(build: Build, file: str, content: Any, message: str) -> None:
    model = build(sentence_transformers={})
    write(model.path / file, content)
    with pytest.raises(UnsupportedError, match=message):
        read_sentence_config(model)


def test_a_damaged_file(build: Build) -> None:
    model = build(sentence_transformers={})
    (model.path / "1_Pooling" / "config.json").write_text("{")
    with pytest.raises(CorruptFileError, match="1_Pooling"):
        read_sentence_config(model)
    assert transformer_folder(model) == ""


def test_a_causal_model_without_modules_pools_its_last_token(build: Build) -> None:
    model = build()
    assert read_sentence_config(model).pooling == ("mean",)
    config = model.read_json("config.json")
    write(model.path / "config.json", {**config, "architectures": ["LlamaForCausalLM"]})
    assert read_sentence_config(model).pooling == ("lasttoken",)
    write(model.path / "config.json", {**config, "architectures": ["LlamaForCausalLM"], "is_causal": False})
    assert read_sentence_config(model).pooling == ("mean",)


def test_truncate_dim_of_the_repository(build: Build) -> None:
    model = build(sentence_transformers={})
    write(model.path / "config_sentence_transformers.json", {"truncate_dim": 8, "prompts": {"query": None}})
    with FeatureExtractionPipeline(model) as pipe:
        assert pipe.encode(["fox"], prompt_name="query").shape == (1, pipe.dimension) == (1, 8)


def test_the_weights_of_layers_count_as_memory(build: Build) -> None:
    with FeatureExtractionPipeline(build(sentence_transformers={"dense": 24})) as pipe:
        before = pipe.memory_bytes
        pipe.encode("fox")
        assert pipe.memory_bytes == before + 4 * (24 * 32 + 24)


def dense(folder: Path, **config: Any) -> Dense:
    folder.mkdir(exist_ok=True)
    save_file({"linear.weight": np.eye(3, dtype=np.float32)}, folder / "model.safetensors")
    write(folder / "config.json", {"bias": False, **config})
    return Dense(folder)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [  # torch's own answers to -1, 0 and 2
        ("activation.Tanh", [-0.76159418, 0, 0.96402758]),
        ("activation.GELU", [-0.15865529, 0, 1.95449972]),
        ("activation.ReLU", [0, 0, 2]),
        ("activation.Sigmoid", [0.26894143, 0.5, 0.88079703]),
        ("activation.SiLU", [-0.26894143, 0, 1.76159406]),
        ("activation.LeakyReLU", [-0.01, 0, 2]),
        ("linear.Identity", [-1, 0, 2]),
    ],
)
def test_activations(tmp_path: Path, name: str, wanted: list[float]) -> None:
    layer = dense(tmp_path, activation_function=f"torch.nn.modules.{name}")
    found = layer(np.array([[-1, 0, 2]], np.float32))
    assert found.dtype == np.float32 and found[0].tolist() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    "config",
    [
        {"activation_function": "torch.nn.modules.activation.Mish"},
        {"activation_function": "my.module.Tanh"},
        {"module_input_name": "token_embeddings"},
    ],
)
def test_unsupported_dense_layers(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match="Dense layer"):
        dense(tmp_path, **config)


def test_a_dense_layer_with_pickled_weights(tmp_path: Path) -> None:
    write(tmp_path / "config.json", {})
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UnsupportedError, match=r"no model\.safetensors"):
        Dense(tmp_path)


def test_layer_norm_dropout_and_normalize(tmp_path: Path) -> None:
    weights = {"norm.weight": np.full(3, 2, np.float32), "norm.bias": np.ones(3, np.float32)}
    save_file(weights, tmp_path / "model.safetensors")
    vectors = np.array([[1, 2, 3], [0, 0, 0]], np.float32)
    centred = np.array([-1, 0, 1]) / np.sqrt(2 / 3 + 1e-5) * 2 + 1
    assert LayerNorm(tmp_path)(vectors).tolist() == [pytest.approx(centred.tolist()), [1, 1, 1]]
    assert Dropout(tmp_path)(vectors) is vectors
    assert np.linalg.norm(Normalize()(vectors), axis=1).tolist() == pytest.approx([1, 0])


@pytest.mark.parametrize("mode", MODES)
def test_padding_is_not_pooled(mode: str) -> None:
    tokens = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    other = tokens.copy()
    other[0, 3:] = 100
    pooled = MODES[mode](tokens, mask)
    assert pooled.dtype == np.float32 and pooled.shape == (2, 4)
    assert np.array_equal(pooled, MODES[mode](other, mask))


def test_safetensors(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    arrays = {"a": np.ones((2, 3), np.float32), "b": np.arange(4, dtype=np.float16), "c": np.arange(3)}
    save_file(arrays, file)
    found = read_floats(file)
    assert found.keys() == {"a", "b"}  # integers are left out
    assert all(array.dtype == np.float32 for array in found.values())
    assert found["b"].tolist() == [0, 1, 2, 3] and found["a"].shape == (2, 3)


def test_bfloat16_is_the_upper_half_of_float32(tmp_path: Path) -> None:
    values = np.array([1, -2.5, 0.15625], np.float32)
    header = json.dumps({"x": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}).encode()
    data = (values.view("<u4") >> 16).astype("<u2").tobytes()
    (tmp_path / "x").write_bytes(len(header).to_bytes(8, "little") + header + data)
    assert read_floats(tmp_path / "x")["x"].tolist() == values.tolist()


@pytest.mark.parametrize("cut", [0, 5, 8, 40, -1])
def test_truncated_safetensors(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "x.safetensors"
    save_file({"a": np.ones((2, 3), np.float32)}, file)
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(CorruptFileError, match=r"x\.safetensors is not a safetensors file"):
        read_floats(file)


def test_the_old_layout_with_the_transformer_in_a_folder(build: Build) -> None:
    model = build(sentence_transformers={"max_seq_length": 16})
    with FeatureExtractionPipeline(model) as pipe:
        wanted = pipe.encode(SENTENCES)
    listed = modules(model)
    listed[0]["path"] = "0_Transformer"
    write(model.path / "modules.json", listed)
    (model.path / "0_Transformer").mkdir()
    for name in ("sentence_bert_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.move(model.path / name, model.path / "0_Transformer" / name)
    with FeatureExtractionPipeline(model) as pipe:
        assert pipe.max_seq_length == 16
        assert np.array_equal(pipe.encode(SENTENCES), wanted)
