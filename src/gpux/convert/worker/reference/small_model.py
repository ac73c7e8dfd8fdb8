"""A small random model of the same configuration, for lengths that cost too much in full size."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch

from gpux.convert.worker.reference.lengths import LengthThreshold, find_thresholds, text_parts

HEADS, HEAD, FFN, VOCABULARY, EXPERTS, WINDOW = 4, 16, 96, 512, 16, 8
HEAD_NAMES = ("num_attention_heads", "n_head", "num_heads", "n_heads")
WIDTHS = ("hidden_size", "n_embd", "d_model", "dim")
#: Largest sizes of dimensions.
SIZES = {
    "intermediate_size": FFN, "n_inner": FFN, "ffn_dim": FFN, "d_ff": FFN, "hidden_dim": FFN, "ffn_hidden_size": FFN,
    "intermediate_size_mlp": FFN, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 48,
    "shared_intermediate_size": 48, "embedding_size": 64, "word_embed_proj_dim": 64,
    "head_dim": HEAD, "attention_head_dim": HEAD, "global_head_dim": HEAD, "rotary_dim": 8,
    "query_pre_attn_scalar": HEAD,
    "vocab_size": VOCABULARY, "vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 16,
    "num_experts": EXPERTS, "num_local_experts": EXPERTS, "n_routed_experts": EXPERTS, "moe_num_experts": EXPERTS,
    "n_group": 4, "topk_group": 2, "num_experts_per_tok": 4, "moe_k": 4,
    "q_lora_rank": 32, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16,
    "qk_head_dim": 24,
}  # fmt: skip
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
PER_LAYER = ("layer_types", "attention_layers", "attention_window", "no_rope_layers", "mlp_layer_types")
#: Lengths in a configuration, and their values in the small model.
LENGTHS = {
    "sliding_window": WINDOW,
    "window_size": WINDOW,
    "attention_chunk_size": WINDOW,
    "local_attention": 2 * WINDOW,
}


class NotShrinkableError(Exception):
    """The configuration cannot be reduced to a small model."""


def small_model(model: Any, seed: int) -> Any:
    """A model of the same class with thresholds of a few tokens.

    Raises:
        NotShrinkableError: transformers cannot create it, or the configuration has lengths of other names.
    """
    config = copy.deepcopy(model.config)
    for part in text_parts(config):
        shrink(part)
    if {one.name for one in find_thresholds(config)} != {one.name for one in find_thresholds(model.config)}:
        raise NotShrinkableError("the small configuration has other thresholds than the large one")
    try:
        torch.manual_seed(seed)
        small = type(model)(config)
    except Exception as exc:  # classes raise anything for unusual sizes
        raise NotShrinkableError(f"{type(exc).__name__}: {exc}") from exc
    redraw(small, seed)
    return small.float().eval()


def shrink(config: Any) -> None:
    """Reduce dimensions in place; the ratio of query to key heads and the pattern of layers are kept."""
    for name, size in SIZES.items():
        value = getattr(config, name, None)
        if isinstance(value, int) and not isinstance(value, bool) and value > size:
            setattr(config, name, size)
    _shrink_heads(config)
    _shrink_layers(config)
    _shrink_lengths(config)
    for name, value in list(vars(config).items()):
        if name.endswith("_token_id") and isinstance(value, int) and value >= VOCABULARY:
            setattr(config, name, len(name) % 7)  # any small number that the vocabulary has


def _shrink_heads(config: Any) -> None:
    for name in HEAD_NAMES:
        heads = getattr(config, name, None)
        if not isinstance(heads, int):
            continue
        small = min(heads, HEADS)
        for key in ("num_key_value_heads", "num_kv_heads"):
            keys = getattr(config, key, None)
            if isinstance(keys, int) and keys > 0:
                setattr(config, key, max(1, small * keys // heads))
        setattr(config, name, small)
        for width in WIDTHS:
            if isinstance(getattr(config, width, None), int):
                setattr(config, width, small * HEAD)
        return


def _shrink_layers(config: Any) -> None:
    count = _pattern(config)
    for name in LAYERS:
        layers = getattr(config, name, None)
        if isinstance(layers, int):
            setattr(config, name, min(layers, count))
    for name in PER_LAYER:
        value = getattr(config, name, None)
        if isinstance(value, list):
            setattr(config, name, value[:count])


def _pattern(config: Any) -> int:
    """The number of layers that includes each kind, at least two."""
    kinds = next((value for name in PER_LAYER[:2] if isinstance(value := getattr(config, name, None), list)), [])
    every = getattr(config, "sliding_window_pattern", None) or getattr(config, "global_attn_every_n_layers", None)
    first = max((kinds.index(kind) + 1 for kind in set(kinds)), default=every if isinstance(every, int) else 2)
    return max(2, first)


def _shrink_lengths(config: Any) -> None:
    for name, size in LENGTHS.items():
        value = getattr(config, name, None)
        if isinstance(value, int) and value > size:
            setattr(config, name, size)
    windows = getattr(config, "attention_window", None)
    if isinstance(windows, list):
        config.attention_window = [2 * WINDOW] * len(windows)
    elif isinstance(windows, int):
        config.attention_window = 2 * WINDOW
    if isinstance(getattr(config, "max_position_embeddings", None), int):
        config.max_position_embeddings = min(config.max_position_embeddings, 256)


def redraw(model: Any, seed: int) -> None:
    """Draw every weight anew at unit gain, biases and norms included.

    With the library's initialization (standard deviation 0.02, biases zero) a model is nearly the identity on its
    embeddings, and a wrong mask or position does not change the outputs much.
    """
    numbers = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.is_floating_point() or not parameter.requires_grad or not parameter.numel():
                continue
            drawn = torch.randn(parameter.shape, generator=numbers)
            if parameter.ndim >= 2:
                inputs = parameter[0].numel() if parameter.ndim > 2 else parameter.shape[-1]
                parameter.copy_(drawn / max(1, inputs) ** 0.5)
            else:
                parameter.add_(0.1 * drawn)


def full_length(full: Sequence[LengthThreshold], small: Sequence[LengthThreshold]) -> Callable[[int], int]:
    """A function from a length of the small model to one in full size on the same side of every threshold."""
    little = {one.name: one.length for one in small}
    pairs = [(one.length, little[one.name]) for one in full]

    def reached(length: int) -> int:
        passed = [large + 1 for large, limit in pairs if length > limit]
        return max(passed, default=min([length, *(large for large, _ in pairs)]))

    return reached
