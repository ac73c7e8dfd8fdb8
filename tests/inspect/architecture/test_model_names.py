from __future__ import annotations

import pytest

from gpux.inspect.architecture import (
    active_parameters_from_name,
    count_from_name,
    parameters_from_name,
    parameters_from_tags,
)


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
    assert count_from_name("x").reason == "neither the tags nor the name tell a size"
