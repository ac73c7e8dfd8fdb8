"""Recurrent layers: Mamba, gated convolutions, linear attention."""

from __future__ import annotations

from collections.abc import Callable

from gpux.inspect.architecture.fields import Fields, MissingFieldError
from gpux.inspect.architecture.layers import linear


def mixer_parameters(fields: Fields, hidden: int) -> int:
    """Parameters of the mixer of one layer, without its norm."""
    return _MIXERS[fields.model_type or ""](fields, hidden)


def state_numbers(fields: Fields, hidden: int) -> int:
    """Values in the recurrent state of one layer, for a sequence of any length."""
    rule = _STATES.get(fields.model_type or "")
    return rule(fields, hidden) if rule is not None else 0


def _mamba(fields: Fields, hidden: int) -> int:
    """Mamba, arXiv 2312.00752: selective state spaces."""
    inner, state, rank = _inner(fields, hidden), fields.need("state"), _rank(fields, hidden)
    biased = fields.flag("use_bias") or fields.flag("mamba_proj_bias")
    conv_bias = fields.flag("mamba_conv_bias" if fields.model_type == "jamba" else "use_conv_bias", default=True)
    convolution = inner * fields.need("conv") + (inner if conv_bias else 0)
    select = linear(inner, rank + 2 * state, bias=False) + linear(rank, inner)
    norms = rank + 2 * state if fields.model_type == "jamba" else 0
    ends = linear(hidden, 2 * inner, biased) + linear(inner, hidden, biased)
    return ends + convolution + select + inner * state + inner + norms


def _inner(fields: Fields, hidden: int) -> int:
    if fields.model_type == "jamba":
        return (fields.size("mamba_expand") or 2) * hidden
    if fields.model_type == "falcon_mamba" and (stated := fields.size("intermediate_size")) is not None:
        return stated
    return int((fields.number("expand") or 2) * hidden)


def _rank(fields: Fields, hidden: int) -> int:
    stated = fields.size("mamba_dt_rank") if fields.model_type == "jamba" else fields.size("time_step_rank")
    return stated or -(-hidden // 16)


def _mamba2(fields: Fields, hidden: int) -> int:
    """Mamba-2, arXiv 2405.21060."""
    inner, heads = int((fields.number("expand") or 2) * hidden), fields.need("heads")
    mixed = inner + 2 * fields.need("n_groups") * fields.need("state")
    biased = fields.flag("use_bias")
    convolution = mixed * fields.need("conv") + (mixed if fields.flag("use_conv_bias", True) else 0)
    ends = linear(hidden, inner + mixed + heads, biased) + linear(inner, hidden, biased)
    return ends + convolution + 3 * heads + inner


def _lfm2(fields: Fields, hidden: int) -> int:
    """LFM2's gated short convolution."""
    biased = fields.flag("conv_bias")
    convolution = hidden * (fields.size("conv_L_cache") or 3) + (hidden if biased else 0)
    return linear(hidden, 3 * hidden, biased) + convolution + linear(hidden, hidden, biased)


def _delta_sizes(fields: Fields) -> tuple[int, int, int]:
    """Returns (width of all keys, width of all values, number of value heads)."""
    heads = fields.need("linear_num_value_heads")
    keys = fields.need("linear_num_key_heads") * fields.need("linear_key_head_dim")
    return keys, heads * fields.need("linear_value_head_dim"), heads


def _delta(fields: Fields, hidden: int) -> int:
    """Gated delta net (Qwen3-Next), arXiv 2412.06464."""
    keys, values, heads = _delta_sizes(fields)
    ends = linear(hidden, 2 * keys + 2 * values + 2 * heads, bias=False) + linear(values, hidden, bias=False)
    convolution = (2 * keys + values) * fields.need("linear_conv_kernel_dim")
    return ends + convolution + 2 * heads + fields.need("linear_value_head_dim")


def _delta_state(fields: Fields, hidden: int) -> int:
    keys, values, _ = _delta_sizes(fields)
    return fields.need("linear_key_head_dim") * values + (2 * keys + values) * fields.need("linear_conv_kernel_dim")


def _mamba_state(fields: Fields, hidden: int) -> int:
    return _inner(fields, hidden) * (fields.need("state") + fields.need("conv"))


def _mamba2_state(fields: Fields, hidden: int) -> int:
    inner = int((fields.number("expand") or 2) * hidden)
    mixed = inner + 2 * fields.need("n_groups") * fields.need("state")
    return inner * fields.need("state") + mixed * fields.need("conv")


def _lfm2_state(fields: Fields, hidden: int) -> int:
    return hidden * (fields.size("conv_L_cache") or 3)


_Rule = Callable[[Fields, int], int]
_MIXERS: dict[str, _Rule] = {
    **dict.fromkeys(("mamba", "falcon_mamba", "jamba"), _mamba),
    "mamba2": _mamba2,
    "lfm2": _lfm2,
    "qwen3_next": _delta,
}
_STATES: dict[str, _Rule] = {
    **dict.fromkeys(("mamba", "falcon_mamba", "jamba"), _mamba_state),
    "mamba2": _mamba2_state,
    "lfm2": _lfm2_state,
    "qwen3_next": _delta_state,
}


def _every(fields: Fields, layers: int) -> int:
    """Attention layers of Jamba: one per period."""
    period = fields.need("attn_layer_period")
    offset = fields.count("attn_layer_offset") or 0
    return sum(i % period == offset for i in range(layers))


def _listed(fields: Fields, layers: int) -> int:
    """Attention layers of types that list the type of each layer, the attention layers, or their interval."""
    kinds = fields.items("layer_types")
    if kinds:
        return sum(kind == "full_attention" for kind in kinds[:layers])
    if "full_attn_idxs" in fields.given:
        return len([i for i in fields.counts("full_attn_idxs") if i < layers])
    if fields.model_type == "qwen3_next":
        return layers // (fields.size("full_attention_interval") or 4)
    if fields.model_type == "lfm2":
        return layers
    raise MissingFieldError("layer_types")


def _none(fields: Fields, layers: int) -> int:
    return 0


#: Type with recurrent layers -> function that returns the number of attention layers.
RECURRENT: dict[str, _Rule] = {
    **dict.fromkeys(("mamba", "mamba2", "falcon_mamba"), _none),
    "jamba": _every,
    **dict.fromkeys(("lfm2", "qwen3_next"), _listed),
}
