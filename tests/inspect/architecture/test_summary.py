"""Summaries of real configurations, and of contradicting ones."""

from __future__ import annotations

from typing import Any

import pytest

from gpux.inspect.architecture import ArchitectureSummary, summarize
from tests.inspect.architecture.golden import GOLDEN, NAMES, load

LLAMA: dict[str, Any] = load("llama-2-7b")


def fact(summary: ArchitectureSummary, path: str) -> object:
    value: Any = summary
    for step in path.split("."):
        value = value[step] if isinstance(value, dict) else getattr(value, step)
    return value


@pytest.mark.parametrize("name", NAMES)
def test_summary_has_the_published_facts(name: str) -> None:
    expected, summary = GOLDEN[name]["summary"], summarize(load(name))
    assert {path: fact(summary, path) for path in expected} == expected


@pytest.mark.parametrize("name", NAMES)
def test_real_configurations_have_no_contradictions(name: str) -> None:
    notes = summarize(load(name)).notes
    assert all("for multi-token prediction" in note for note in notes)


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"d_model": 512}, "hidden_size is 4096 but d_model is 512"),
        ({"num_attention_heads": 30}, "is not divisible by 30 heads"),
        ({"num_key_value_heads": 5}, "32 heads are not divisible by 5"),
        ({"num_local_experts": 4, "num_experts_per_tok": 8}, "uses 8 experts, but there are 4"),
        ({"layer_types": ["full_attention"] * 3}, "has 3 entries, but there are 32 layers"),
        ({"dtype": "float32"}, "torch_dtype is float16 but dtype is float32"),
        ({"hidden_size": "big"}, "hidden_size is not a count: 'big'"),
        ({"vocab_size": -1}, "vocab_size is not a count"),
        ({"vocab_size": [1, 2]}, "a value of type list"),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, "before or after"),
    ],
)
def test_contradictions_are_noted(change: dict[str, object], note: str) -> None:
    assert any(note in found for found in summarize({**LLAMA, **change}).notes)


def test_synonyms_of_fields() -> None:
    chatglm = {"model_type": "chatglm", "hidden_size": 4096, "num_layers": 28, "num_attention_heads": 32,
               "multi_query_attention": True, "multi_query_group_num": 2, "kv_channels": 128, "seq_length": 32768,
               "padded_vocab_size": 65024, "ffn_hidden_size": 13696}  # fmt: skip
    found = summarize(chatglm)
    assert (found.layers, found.kv_heads, found.attention, found.context_length) == (28, 2, "GQA", 32768)
    assert (found.vocab_size, found.intermediate_size, found.head_size) == (65024, 13696, 128)


def test_language_part_under_another_name() -> None:
    found = summarize(
        {
            "model_type": "internvl_chat",
            "llm_config": {"model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24},
            "vision_config": {"hidden_size": 1024, "num_hidden_layers": 24, "patch_size": 14, "image_size": 448},
        }
    )
    assert (found.kind, found.hidden_size, found.layers) == ("multimodal", 896, 24)
    assert found.towers["vision"].patch_size == 14


def test_encoder_and_decoder_in_sections() -> None:
    found = summarize(
        {
            "model_type": "vision-encoder-decoder",
            "encoder": {"model_type": "vit", "hidden_size": 768, "num_hidden_layers": 12},
            "decoder": {"model_type": "gpt2", "n_embd": 768, "n_layer": 6},
        }
    )
    assert (found.kind, found.encoder_layers, found.decoder_layers, found.layers) == ("encoder-decoder", 12, 6, 6)


def test_null_overrides_the_default() -> None:
    assert summarize({"model_type": "mistral"}).sliding_window == 4096
    assert summarize({"model_type": "mistral", "sliding_window": None}).sliding_window is None
    assert summarize({"model_type": "mistral", "num_key_value_heads": None}).attention == "MHA"


def test_defaults_are_named() -> None:
    found = summarize({"model_type": "llama", "hidden_size": 2048})
    assert found.layers == 32 and "num_hidden_layers" in found.assumed and "hidden_size" not in found.assumed


def test_a_disabled_window_is_ignored() -> None:
    qwen = load("qwen2-7b")
    assert summarize(qwen).sliding_window is None
    used = summarize({**qwen, "use_sliding_window": True, "sliding_window": 4096, "max_window_layers": 20})
    assert (used.sliding_window, used.sliding_layers) == (4096, 8)
    assert used.cache is not None and (used.cache.full_layers, used.cache.sliding_layers) == (20, 8)


@pytest.mark.parametrize(
    ("scaling", "context", "original"),
    [
        ({"type": "dynamic", "factor": 2.0}, 8192, 4096),
        ({"rope_type": "yarn", "factor": 8, "original_max_position_embeddings": 4096}, 32768, 4096),
        ({"rope_type": "llama3", "factor": 32, "original_max_position_embeddings": 2048}, 4096, 2048),
        ({"rope_type": "default"}, 4096, None),
        ({"type": "yarn", "factor": "much"}, 4096, 4096),
        ({"full_attention": {"rope_type": "yarn", "factor": 2.0}}, 8192, 4096),
    ],
)
def test_rotary_scaling(scaling: dict[str, object], context: int, original: int | None) -> None:
    found = summarize({**LLAMA, "rope_scaling": scaling})
    assert (found.context_length, found.original_context_length) == (context, original)


def test_usable_length_beyond_the_position_embeddings() -> None:
    vicuna = {**LLAMA, "max_sequence_length": 16384, "rope_scaling": {"type": "linear", "factor": 4.0}}
    assert summarize(vicuna).context_length == 16384


_INT4 = {"weights": {"num_bits": 4, "group_size": 128, "type": "int"}}


@pytest.mark.parametrize(
    ("stated", "method", "bits", "group"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "awq", 4, 128),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, "gptq", 8, None),
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "bitsandbytes", 4, 64),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes", 8, None),
        ({"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}, "fp8", 8, 16384),
        ({"quant_method": "mxfp4"}, "mxfp4", 4, 32),
        ({"quant_method": "compressed-tensors", "config_groups": {"group_0": _INT4}}, "compressed-tensors", 4, 128),
        ({"quant_method": "torchao", "quant_type": "int4_weight_only"}, "torchao", 4, None),
        ({"quant_method": "hqq", "bits": True}, "hqq", None, None),
    ],
)
def test_quantization(stated: dict[str, object], method: str, bits: int | None, group: int | None) -> None:
    found = summarize({**LLAMA, "quantization_config": stated}).quantization
    assert found is not None and (found.method, found.bits, found.group_size) == (method, bits, group)
