"""Which inputs and outputs of exported graphs belong to a KV cache."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gpux.model.graph_io import is_cache, is_cache_input, present_name


@pytest.mark.parametrize(
    "name", ["past_key_values.0.key", "past.3.value", "past_conv.0", "past_key_values.0.encoder.key", "cache_params.0"]
)
def test_cache_inputs(name: str) -> None:
    assert is_cache_input(name) and is_cache(name)


@pytest.mark.parametrize("name", ["input_ids", "cache_position", "use_cache_branch", "attention_mask", "logits"])
def test_other_names(name: str) -> None:
    assert not is_cache_input(name) and not is_cache(name)


def test_cache_outputs_are_not_cache_inputs() -> None:
    assert is_cache("present.0.key") and not is_cache_input("present.0.key")


@pytest.mark.parametrize(
    ("past", "outputs", "present"),
    [
        ("past_key_values.0.key", ["logits", "present.0.key"], "present.0.key"),
        ("past_key_values.0.key", ["present_key_values.0.key"], "present_key_values.0.key"),
        ("past.0.key", ["present.0.key"], "present.0.key"),
        ("past_conv.0", ["present_conv.0"], "present_conv.0"),
        ("past_key_values.1.key", ["present.0.key"], None),
        ("input_ids", ["input_ids"], None),
    ],
)
def test_the_output_that_feeds_a_cache_input(past: str, outputs: list[str], present: str | None) -> None:
    assert present_name(past, outputs) == present


def test_programs_in_a_toolchain_can_import_it() -> None:
    program = "import sys, gpux.model.graph_io; print(*{name.partition('.')[0] for name in sys.modules})"
    found = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert not {"numpy", "onnx", "onnxruntime", "msgspec", "huggingface_hub"}.intersection(found)
