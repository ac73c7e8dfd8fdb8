"""Parameter counts by formula, against models built from the same configurations, and by tags or name."""

from __future__ import annotations

import pytest

from gpux.inspect.architecture import (
    active_parameters_from_name,
    count_from_name,
    count_parameters,
    parameters_from_name,
    parameters_from_tags,
)
from tests.inspect.architecture.golden import GOLDEN, HERE, NAMES, load


def test_the_golden_table_is_complete() -> None:
    assert {path.stem for path in (HERE / "configs").glob("*.json")} == set(GOLDEN)
    assert len(GOLDEN) >= 60


@pytest.mark.parametrize("name", NAMES)
def test_count_is_that_of_the_built_model(name: str) -> None:
    counts, found = GOLDEN[name]["counts"], count_parameters(load(name))
    assert found.total == counts["parameters"]
    assert found.active == counts["active"]
    assert found.non_embedding == counts["parameters"] - counts["embedding"]
    assert (found.basis, found.reason) == ("config by formula", None)


def test_published_counts() -> None:
    gpt2 = count_parameters(load("gpt2"))
    assert (gpt2.total, gpt2.mask_buffers) == (124_439_808, 12_582_912)
    assert gpt2.total is not None and gpt2.total + gpt2.mask_buffers == 137_022_720
    assert count_parameters(load("mistral-7b-v0.1")).total == 7_241_732_096
    mixtral = count_parameters(load("mixtral-8x7b"))
    assert (mixtral.total, mixtral.active) == (46_702_792_704, 12_879_925_248)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({}, "has no model_type"),
        ({"model_type": "shiny_new"}, "no formula for the model type shiny_new"),
        ({"model_type": "internlm2", "hidden_size": 4096, "num_hidden_layers": 32}, "no formula"),
        ({"model_type": "llama", "hidden_size": "4096"}, "lacks hidden_size"),
        ({"model_type": "llama", "hidden_size": None}, "lacks hidden_size"),
        ({"model_type": "llama", "num_hidden_layers": -3}, "lacks num_hidden_layers"),
        ({"model_type": "llava", "vision_config": {"model_type": "siglip_vision_model"}}, "text_config"),
        ({"model_type": "clip"}, "lacks text_config"),
        (
            {"model_type": "electra", "architectures": ["ElectraForMultipleChoice"]},
            "the class ElectraForMultipleChoice",
        ),
        ({"model_type": "bart", "architectures": ["BartForCausalLM"]}, "the class BartForCausalLM"),
        ({"model_type": "deepseek_v2", "mlp_bias": True}, "experts with biases"),
        ({"model_type": "llama", "vocab_size": 1 << 39, "hidden_size": 1 << 39}, "implausible"),
    ],
)
def test_an_unknown_count_has_a_reason(config: dict[str, object], reason: str) -> None:
    found = count_parameters(config)
    assert (found.total, found.active, found.non_embedding, found.basis) == (None, None, None, "unknown")
    assert found.reason is not None and reason in found.reason


def test_the_head_follows_the_class() -> None:
    body = count_parameters({**load("llama-3-8b"), "architectures": ["LlamaModel"]}).total
    classifier = count_parameters(
        {**load("llama-3-8b"), "architectures": ["LlamaForSequenceClassification"], "num_labels": 3}
    )
    assert body == 8_030_261_248 - 4096 * 128_256
    assert classifier.total == body + 3 * 4096


def test_omitted_values_are_defaults_of_the_type() -> None:
    assert count_parameters({"model_type": "gpt2"}).total == 124_439_808


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("meta-llama/Llama-3.1-70B-Instruct", 70e9),
        ("mistralai/Mixtral-8x7B-v0.1", 56e9),
        ("Qwen/Qwen2-0.5b", 0.5e9),
        ("facebook/opt-350M", 350e6),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 135e6),
        ("Qwen/Qwen3-30B-A3B", 30e9),
        ("microsoft/bitnet-b1.58-2B-4T", 2e9),
        ("gpt-oss-120b", 120e9),
        ("org/model_7b_chat", 7e9),
        ("TheBloke/Llama-2-13B-chat-GGUF", 13e9),
        ("moonshot/giant-1T", 1e12),
        ("openai-community/gpt2", None),
        ("7b/model", None),
        ("google/vit-base-patch16-224", None),
        ("org/8bit-model", None),
        ("org/llama-4bit-128g", None),
        ("org/Phi-3-mini-128k-instruct", None),
        ("t5-3b", 3e9),
        ("", None),
    ],
)
def test_name(name: str, expected: float | None) -> None:
    assert parameters_from_name(name) == expected


def test_active_part_of_a_name() -> None:
    assert active_parameters_from_name("Qwen/Qwen3-235B-A22B-Instruct-2507") == 22_000_000_000
    assert active_parameters_from_name("Qwen/Qwen3-32B") is None


def test_tags() -> None:
    assert parameters_from_tags(["transformers", "params:70B"]) == 70_000_000_000
    assert parameters_from_tags(["7b"]) == 7_000_000_000
    assert parameters_from_tags(["llama-7b-like", "region:us", "arxiv:2310.06825", "license:mit"]) is None


def test_tags_come_before_the_name() -> None:
    assert count_from_name("x-8B", ["params:7b"]).basis == "tags"
    assert count_from_name("x-8B").basis == "name"
    assert count_from_name("x").reason == "neither tags nor name contain a size"
