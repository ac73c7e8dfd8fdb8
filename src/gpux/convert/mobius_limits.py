"""What mobius 0.1.0 is known to get wrong, told by a model's ``config.json`` before any weights travel.

Measured on small models of each type against transformers 5.23: what is listed here was built and answered otherwise
than the original, or could not be built or loaded. The proof finds all of it; knowing it early saves the download.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

Config = Mapping[str, Any]

_OTHERWISE = "builds {} without a word, and the graph answers otherwise than the original"
_NO_PLACE = "has no place for some weights of {}"
_TWO_ORIGINALS = "answers as {} does in transformers 5, which is not quite how it does in transformers 4"
_NO_GRAPH = "builds a graph of {} that onnxruntime refuses"
#: Types that it takes and should not, by what comes of it.
_TYPES = {
    _OTHERWISE: (
        "bloom cohere cohere2 ernie4_5 exaone4 gemma2 gemma3_text gpt_neo gpt_oss helium hunyuan_v1_dense mpt nanochat"
        " olmo3"
    ),
    _NO_PLACE: (
        "biogpt codegen ctrl deepseek_v2 deepseek_v3 diffllama doge ernie4_5_moe falcon falcon_h1 flex_olmo glm4_moe"
        " gpt_neox_japanese gptj granitemoeshared jetmoe llama4_text longcat_flash minicpm3 modernbert-decoder"
        " persimmon phimoe seed_oss solar_open xglm xlm youtu"
    ),
    _TWO_ORIGINALS: "apertus",  # its activation: logits differ by up to 1e-3 of unit weights
    _NO_GRAPH: "glm glm4 nemotron stablelm",
}
#: Model type -> what mobius does with it.
WRONG_TYPES = {name: reason.format(name) for reason, names in _TYPES.items() for name in names.split()}
#: Types whose sliding window it keeps to.
_WINDOWED = frozenset({"ministral", "ministral3", "mistral", "phi3", "starcoder2"})
#: Types whose window is off unless their configuration says otherwise.
_WINDOW_OFF = frozenset({"qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "smollm3"})
#: Types without rotary positions.
_NOT_ROTARY = frozenset({"gpt2", "gpt_bigcode", "gpt-sw3", "openai-gpt", "opt"})


def known_fault(config: Config) -> str | None:
    """What mobius would do wrong with a decoder of a type that it otherwise gets right; None where nothing is known.

    Args:
        config: ``config.json`` as it is in the repository: a key that has its default may be missing.
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
    return f"ignores the sliding window of {window} tokens that {model_type} has here"


def _rope(config: Config) -> str | None:
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(scaling, Mapping) or scaling.get("rope_type", scaling.get("type")) != "dynamic":
        return None
    return "builds rotary positions of type dynamic as if they were plain"


def _rotary_size(config: Config) -> str | None:
    """GroupQueryAttention of onnxruntime wants heads, and the rotated part of them, in multiples of 16."""
    hidden, heads = _number(config, "hidden_size", "n_embd"), _number(config, "num_attention_heads")
    if config.get("model_type") in _NOT_ROTARY or not hidden or not heads:
        return None
    head = _number(config, "head_dim") or hidden // heads
    rotated = int(head * (_number(config, "partial_rotary_factor", "rotary_pct") or _rotated_by_default(config)))
    if head % 16 == 0 and rotated % 16 == 0:
        return None
    return f"makes graphs of heads in multiples of 16 only; here a head has {head:g} and rotates {rotated}"


def _number(config: Config, *names: str) -> float | None:
    """The first of some keys that has a number."""
    places = (config, config.get("rope_parameters"))
    found = [place.get(name) for place in places if isinstance(place, Mapping) for name in names]
    numbers = [value for value in found if isinstance(value, int | float) and not isinstance(value, bool)]
    return next((number for number in numbers if math.isfinite(number)), None)


def _rotated_by_default(config: Config) -> float:
    return {"gpt_neox": 0.25, "phi": 0.5}.get(str(config.get("model_type")), 1.0)


def _switches(config: Config) -> str | None:
    """Parts that a configuration switches on or off, and mobius does not look at."""
    model_type = str(config.get("model_type"))
    for types, key, takes in _SWITCHES:
        if (not types or model_type in types) and key in config and not takes(config):
            return f"does not look at {key}, which is {config[key]!r} here"
    return None


def _is(key: str, *values: Any) -> Callable[[Config], bool]:
    return lambda config: config[key] in values


#: Model types (none: all), key of the configuration, whether mobius takes it.
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
