"""The converter ``mobius``: mobius-onnx builds the graph without running the model, in little memory.

It converts decoders for text generation. The graphs have onnxruntime's GroupQueryAttention: batches are padded on the
right, and several tokens after a cache need a batch of one.

What mobius 0.1.0 is known to get wrong is refused from ``config.json``. Measured on small models of each type against
transformers 5.23: the graphs of refused models were built and answered otherwise than the original, or could not be
built or loaded. The proof finds all of these too; a refusal saves the download.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from gpux.convert.base import Refusal
from gpux.convert.memory import MemoryEstimate
from gpux.convert.spec import Architectures, ConverterSpec, refuse_unlisted

Config = Mapping[str, Any]

_OTHERWISE = "builds a graph of {} that answers otherwise than the original"
_UNUSED = "does not use some weights of {}"
_TWO_ORIGINALS = "builds {} as transformers 5 does, whose answers differ slightly from those of transformers 4"
_NO_GRAPH = "builds a graph of {} that onnxruntime refuses"
#: Types that mobius builds incorrectly, by what is wrong.
_TYPES = {
    _OTHERWISE: (
        "bloom cohere cohere2 ernie4_5 exaone4 gemma2 gemma3_text gpt_neo gpt_oss helium hunyuan_v1_dense mpt nanochat"
        " olmo3"
    ),
    _UNUSED: (
        "biogpt codegen ctrl deepseek_v2 deepseek_v3 diffllama doge ernie4_5_moe falcon falcon_h1 flex_olmo glm4_moe"
        " gpt_neox_japanese gptj granitemoeshared jetmoe llama4_text longcat_flash minicpm3 modernbert-decoder"
        " persimmon phimoe seed_oss solar_open xglm xlm youtu"
    ),
    _TWO_ORIGINALS: "apertus",  # its activation: logits differ by up to 1e-3 of unit weights
    _NO_GRAPH: "glm glm4 nemotron stablelm",
}
#: Model type -> what is wrong with its graph.
WRONG_TYPES = {name: reason.format(name) for reason, names in _TYPES.items() for name in names.split()}
#: Types whose sliding window mobius applies.
_WINDOWED = frozenset({"ministral", "ministral3", "mistral", "phi3", "starcoder2"})
#: Types whose window is off unless their configuration turns it on.
_WINDOW_OFF = frozenset({"qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "smollm3"})
#: Types without rotary positions.
_NOT_ROTARY = frozenset({"gpt2", "gpt_bigcode", "gpt-sw3", "openai-gpt", "opt"})


def known_fault(config: Config) -> str | None:
    """What would be wrong with the graph of a decoder whose type is otherwise right; None if nothing is known.

    Args:
        config: ``config.json`` as it is in the repository; keys may be missing, which means their defaults.
    """
    return next((fault for rule in _RULES if (fault := rule(config)) is not None), None)


def _window(config: Config) -> str | None:
    model_type, window = str(config.get("model_type")), config.get("sliding_window")
    if model_type in _WINDOWED or not isinstance(window, int) or isinstance(window, bool):
        return None
    on = config.get("use_sliding_window", model_type not in _WINDOW_OFF)
    layers = config.get("layer_types")
    on = on or (isinstance(layers, list | tuple) and "sliding_attention" in layers)
    if not on or window >= (_number(config, "max_position_embeddings") or float("inf")):
        return None
    return f"ignores the sliding window of {window} tokens of this {model_type}"


def _rope(config: Config) -> str | None:
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(scaling, Mapping) or scaling.get("rope_type", scaling.get("type")) != "dynamic":
        return None
    return "ignores the scaling of rotary positions of type dynamic"


def _rotary_size(config: Config) -> str | None:
    """onnxruntime's GroupQueryAttention requires head sizes, and their rotated part, in multiples of 16."""
    hidden, heads = _number(config, "hidden_size", "n_embd"), _number(config, "num_attention_heads")
    if config.get("model_type") in _NOT_ROTARY or not hidden or not heads:
        return None
    head = _number(config, "head_dim") or hidden // heads
    rotated = int(head * (_number(config, "partial_rotary_factor", "rotary_pct") or _rotated_by_default(config)))
    if head % 16 == 0 and rotated % 16 == 0:
        return None
    return f"needs head sizes in multiples of 16; here a head has {head:g} and rotates {rotated}"


def _number(config: Config, *names: str) -> float | None:
    """The first of these keys whose value is a finite number."""
    places = (config, config.get("rope_parameters"))
    found = [place.get(name) for place in places if isinstance(place, Mapping) for name in names]
    numbers = [value for value in found if isinstance(value, int | float) and not isinstance(value, bool)]
    return next((number for number in numbers if math.isfinite(number)), None)


def _rotated_by_default(config: Config) -> float:
    return {"gpt_neox": 0.25, "phi": 0.5}.get(str(config.get("model_type")), 1.0)


def _switches(config: Config) -> str | None:
    """Options of a configuration that mobius ignores."""
    model_type = str(config.get("model_type"))
    for types, key, supported in _SWITCHES:
        if (not types or model_type in types) and key in config and not supported(config):
            return f"ignores {key}, which is {config[key]!r} here"
    return None


def _is(key: str, *values: Any) -> Callable[[Config], bool]:
    return lambda config: config[key] in values


#: Model types (empty: all), key of the configuration, whether mobius builds what its value means.
_SWITCHES: tuple[tuple[frozenset[str], str, Callable[[Config], bool]], ...] = (
    (frozenset(), "mlp_bias", _is("mlp_bias", False, None)),
    (frozenset(), "clip_qkv", _is("clip_qkv", None)),
    (frozenset(), "mlp_only_layers", _is("mlp_only_layers", None, [])),
    (frozenset(), "decoder_sparse_step", _is("decoder_sparse_step", 1)),
    (frozenset({"gpt2", "gpt_bigcode"}), "scale_attn_weights", _is("scale_attn_weights", True)),
    (frozenset({"gpt2", "gpt-sw3"}), "scale_attn_by_inverse_layer_idx", _is("scale_attn_by_inverse_layer_idx", False)),
    (frozenset({"gpt_neox"}), "use_parallel_residual", _is("use_parallel_residual", True)),
    (frozenset({"gpt_neox"}), "tie_word_embeddings", _is("tie_word_embeddings", False)),
    (frozenset({"opt"}), "do_layer_norm_before", _is("do_layer_norm_before", True)),
    (frozenset({"opt"}), "enable_bias", _is("enable_bias", True)),
    (frozenset({"opt"}), "word_embed_proj_dim", lambda c: c["word_embed_proj_dim"] == c.get("hidden_size", 768)),
    (frozenset({"phi"}), "qk_layernorm", _is("qk_layernorm", False)),
    (frozenset({"phi3"}), "partial_rotary_factor", _is("partial_rotary_factor", 1, 1.0)),
)
_RULES = (_rope, _window, _rotary_size, _switches)


@cache
def _table() -> dict[str, Any]:
    text = (files("gpux.convert") / "mobius_architectures.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def architectures() -> Architectures:
    """Model type -> tasks, as ``scripts/update_architectures.py`` read them from the pinned mobius."""
    found: Architectures = _table()["architectures"]
    return found


def refuse(config: Config, task: str) -> Refusal | None:
    """Why mobius does not convert a model; None if it does."""
    model_type = str(config.get("model_type") or "")
    if model_type in WRONG_TYPES:
        return Refusal(WRONG_TYPES[model_type], False)
    if other := _table()["others"].get(model_type):
        return Refusal(
            f"builds {model_type} for {', '.join(other)} only, and gpux uses mobius for text-generation only", False
        )
    if refused := refuse_unlisted(architectures(), model_type, task):
        return refused
    fault = known_fault(config)
    return None if fault is None else Refusal(fault, False)


SPEC = ConverterSpec(
    name="mobius",
    worker="gpux.convert.worker.mobius",
    architectures=architectures,
    requirements=Path(str(files("gpux.convert") / "requirements" / "mobius.txt")),
    tokenizer_requirements=Path(str(files("gpux.convert") / "requirements" / "mobius-tokenizer.txt")),
    modules=(
        "torch",
        "onnx",
        "onnxruntime",
        "safetensors",
        "tokenizers",
        "transformers",
        "onnx_ir",
        "onnxscript",
        "mobius.tasks",
    ),
    refuse=refuse,
    memory=MemoryEstimate(400_000_000, 2.0, 2.0),
    priority=1,
    packages=("mobius-onnx", "transformers", "torch"),
    extra="mobius",
)
