"""The converter `mobius` with a fake worker, and its refusals from the configuration alone. Without torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from gpux.convert import mobius
from gpux.convert.base import ConversionRequest
from gpux.convert.host.converter import ToolchainConverter, has_modules
from gpux.convert.registry import GROUP, converters
from gpux.errors import ToolchainMissingError, UnsupportedTaskError
from gpux.system.settings import Settings

TASK = "text-generation"
LLAMA = {
    "model_type": "llama",
    "hidden_size": 768,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
}
Fake = Callable[[str], Path]
MakeRequest = Callable[..., ConversionRequest]


@pytest.fixture
def converter(settings: Settings) -> ToolchainConverter:
    return ToolchainConverter(mobius.SPEC, settings)


def test_a_result_becomes_a_report(settings: Settings, fake_python: Fake, make_request: MakeRequest) -> None:
    report = ToolchainConverter(mobius.SPEC, settings, python=fake_python("good")).convert(make_request(task=TASK))
    assert report.graphs == {"model": "model.onnx"}
    assert report.call_spec.padding_side == "right"


def test_a_failure_is_typed(settings: Settings, fake_python: Fake, make_request: MakeRequest) -> None:
    with pytest.raises(UnsupportedTaskError, match="org/name cannot be converted for text-generation: no"):
        ToolchainConverter(mobius.SPEC, settings, python=fake_python("failure")).convert(make_request(task=TASK))


@pytest.mark.skipif(has_modules(mobius.SPEC.modules), reason="gpux[mobius] is installed")
def test_no_toolchain(converter: ToolchainConverter, make_request: MakeRequest) -> None:
    with pytest.raises(ToolchainMissingError) as caught:
        converter.convert(make_request(task=TASK))
    assert "gpux toolchain install mobius" in str(caught.value.hint)
    assert "gpux[mobius]" in str(caught.value.hint)


def test_its_entry_point(settings: Settings) -> None:
    point = EntryPoint("mobius", "gpux.convert.mobius:SPEC", GROUP)
    assert isinstance(converters(settings, [point])["mobius"], ToolchainConverter)


@pytest.mark.parametrize(
    "config",
    [
        LLAMA,
        {**LLAMA, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
        {**LLAMA, "rope_scaling": None, "mlp_bias": False, "head_dim": None},
        {**LLAMA, "model_type": "mistral", "sliding_window": 512},
        {**LLAMA, "model_type": "mixtral", "sliding_window": None},
        {**LLAMA, "model_type": "qwen2", "sliding_window": 512},
        {**LLAMA, "model_type": "qwen3", "sliding_window": 512, "use_sliding_window": False},
        {**LLAMA, "model_type": "gpt_neox", "hidden_size": 768, "rotary_pct": 0.25},
        {"model_type": "gpt2", "n_embd": 60, "num_attention_heads": 12},
        {"model_type": "opt", "do_layer_norm_before": True, "word_embed_proj_dim": 768},
        {"model_type": "gemma"},
    ],
)
def test_supported_configurations(converter: ToolchainConverter, config: dict[str, Any]) -> None:
    assert converter.refusal(config, TASK) is None


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({**LLAMA, "rope_scaling": {"type": "dynamic", "factor": 2.0}}, "dynamic"),
        ({**LLAMA, "rope_parameters": {"rope_type": "dynamic"}}, "dynamic"),
        ({**LLAMA, "mlp_bias": True}, "mlp_bias, which is True"),
        ({**LLAMA, "hidden_size": 96, "num_attention_heads": 4}, "head has 24"),
        ({**LLAMA, "model_type": "gpt_neox", "rotary_pct": 0.1}, "rotates 6"),
        ({**LLAMA, "model_type": "mixtral", "sliding_window": 512}, "window of 512"),
        ({**LLAMA, "model_type": "qwen2", "sliding_window": 512, "use_sliding_window": True}, "window of 512"),
        ({**LLAMA, "model_type": "qwen3", "sliding_window": 9, "layer_types": ["sliding_attention"]}, "window of 9"),
        ({**LLAMA, "model_type": "olmo", "clip_qkv": 0.5}, "clip_qkv"),
        ({**LLAMA, "model_type": "qwen2_moe", "mlp_only_layers": [0]}, "mlp_only_layers"),
        ({"model_type": "gpt2", "scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ({"model_type": "gpt_neox", "use_parallel_residual": False}, "use_parallel_residual"),
        ({"model_type": "opt", "hidden_size": 1024, "word_embed_proj_dim": 512}, "word_embed_proj_dim"),
        ({"model_type": "bloom"}, "answers otherwise"),
        ({"model_type": "falcon"}, "does not use some weights"),
        ({"model_type": "stablelm"}, "onnxruntime refuses"),
        ({"model_type": "bert"}, "builds bert for feature-extraction"),
        ({"model_type": "decidim"}, "does not support the model type 'decidim'"),
        ({}, "''"),
    ],
)
def test_refusals_give_a_reason(converter: ToolchainConverter, config: dict[str, Any], words: str) -> None:
    refusal = converter.refusal(config, TASK)
    assert refusal is not None
    assert words in str(refusal)
    assert not refusal.supports_architecture


def test_another_task_of_a_supported_type(converter: ToolchainConverter) -> None:
    refusal = converter.refusal(LLAMA, "text-classification")
    assert refusal is not None
    assert refusal.supports_architecture
    assert TASK in str(refusal)


@pytest.mark.parametrize("odd", [None, "8", [], {}, True, float("nan"), {"rope_type": 3}])
@pytest.mark.parametrize(
    "key", ["hidden_size", "num_attention_heads", "head_dim", "sliding_window", "rope_scaling", "rope_parameters",
            "layer_types", "max_position_embeddings", "partial_rotary_factor", "word_embed_proj_dim", "clip_qkv"],
)  # fmt: skip
def test_unexpected_values_do_not_break_the_rules(key: str, odd: object) -> None:
    fault = mobius.known_fault({**LLAMA, "model_type": "qwen2", "partial_rotary_factor": 1.0, key: odd})
    assert fault is None or isinstance(fault, str)


def test_known_wrong_types_are_not_in_the_table() -> None:
    table = json.loads((Path(__file__).parents[2] / "src/gpux/convert/mobius_architectures.json").read_text())
    assert not set(mobius.WRONG_TYPES) & set(table["architectures"])
    assert set(table["architectures"]["llama"]) == {TASK}
