"""Mixtures of experts: how many there are, how many a token uses, and what they hold."""

from __future__ import annotations

from dataclasses import dataclass

from gpux.inspect.architecture.fields import Fields, NoFormulaError
from gpux.inspect.architecture.tally import Tally, feed_forward
from gpux.model.values import Value

#: Types of which the experts that all tokens share have a gate of their own.
_SHARED_GATE = frozenset({"qwen2_moe", "qwen3_next"})


@dataclass(frozen=True)
class Experts(Value):
    """The experts of one layer, and how many layers have them."""

    count: int  #: routed experts of a layer
    active: int | None  #: of them, those that one token uses
    shared: int  #: experts that every token uses beside them
    size: int | None  #: inner width of one routed expert
    shared_size: int  #: inner width of all shared experts together
    layers: int  #: layers with experts; the others have a plain feed-forward


def find_experts(fields: Fields, layers: int) -> Experts | None:
    """The experts of a model of so many layers; None for a dense one."""
    count = fields.size("experts") or 0
    if count < 2:
        return None
    size = fields.size("expert") or fields.size("inner")
    shared = fields.count("shared_experts") or 0
    width = fields.size("shared_expert") or shared * (size or 0)
    if fields.model_type == "llama4_text":
        shared, width = 1, fields.size("inner") or 0
    elif width and not shared:
        shared = 1
    return Experts(count, fields.size("used_experts"), shared, size, width, sparse_layers(fields, layers))


def sparse_layers(fields: Fields, layers: int) -> int:
    """How many of the layers have experts, by the rule of the type."""
    dense = fields.items("mlp_only_layers")
    steps = range(layers)
    if (step := fields.size("decoder_sparse_step")) is not None:
        return sum((i + 1) % step == 0 and i not in dense for i in steps)
    if (first := fields.count("first_k_dense_replace")) is not None:
        return max(0, layers - first)
    if (period := fields.size("expert_layer_period")) is not None:
        offset = fields.count("expert_layer_offset") or 0
        return sum(i % period == offset for i in steps)
    if (step := fields.size("interleave_moe_layer_step")) is not None:
        return len(range(step - 1, layers, step))
    if (interval := fields.size("moe_layer_interval")) is not None:
        start, end = fields.count("moe_layer_start_index") or 0, fields.count("moe_layer_end_index")
        last = layers - 1 if end is None else end
        return sum((i + 1) % interval == 0 and start <= i <= last for i in steps)
    return layers


def expert_feed_forwards(fields: Fields, hidden: int, layers: int, experts: Experts) -> Tally:
    """Feed-forwards of all layers of a model with experts, their routers among them."""
    if fields.model_type != "gpt_oss" and (fields.flag("use_bias") or fields.flag("mlp_bias")):
        raise NoFormulaError("experts with biases")
    biased = fields.model_type == "gpt_oss"
    inner = fields.size("intermediate_size_mlp") or fields.need("inner")
    dense = feed_forward(hidden, inner, gated=True, bias=False) * (layers - experts.layers)
    one = feed_forward(hidden, experts.size or fields.need("expert"), gated=True, bias=biased)
    shared = feed_forward(hidden, experts.shared_size, gated=True, bias=False) if experts.shared_size else 0
    sparse = experts.count * one + shared + _router(fields, hidden, experts)
    used = min(experts.count, experts.active or experts.count)
    return Tally(dense + experts.layers * sparse, experts.layers * (experts.count - used) * one)


def _router(fields: Fields, hidden: int, experts: Experts) -> int:
    own = experts.count if fields.model_type in ("gpt_oss", "ernie4_5_moe") else 0  # biases of the choice
    gate = hidden if fields.model_type in _SHARED_GATE else 0
    return experts.count * hidden + own + gate
