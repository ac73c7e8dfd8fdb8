"""How many heads attend, how wide they are, and what of them is remembered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gpux.inspect.architecture.fields import Fields
from gpux.model.values import Value

AttentionKind = Literal["MHA", "GQA", "MQA", "MLA", "none"]

#: Types without any attention.
STATE_SPACE = frozenset({"mamba", "mamba2", "falcon_mamba", "rwkv", "xlstm"})
#: Types that answer by convolution alone.
CONVOLUTION = frozenset(
    {"resnet", "convnext", "convnextv2", "regnet", "efficientnet", "mobilenet_v1", "mobilenet_v2", "bit", "van"}
)


@dataclass(frozen=True)
class Heads(Value):
    """The heads of one layer's attention."""

    count: int | None
    kv: int | None  #: heads of keys and values
    size: int | None  #: of one query
    value_size: int | None  #: of one value
    kind: AttentionKind | None


def find_heads(fields: Fields) -> Heads:
    """The heads that the configuration describes, by the rule of its type; None for what it does not tell."""
    if fields.model_type in STATE_SPACE or fields.model_type in CONVOLUTION:
        return Heads(None, None, None, None, "none")
    count = fields.size("heads")
    if count is None and fields.counts("num_heads"):
        return Heads(None, None, None, None, "MHA")  # as many as its stages say (Swin)
    if fields.size("kv_lora_rank") is not None:
        return _latent(fields, count)
    kv = kv_heads(fields, count)
    size = head_size(fields, count)
    return Heads(count, kv, size, size, attention_kind(count, kv))


def _latent(fields: Fields, count: int | None) -> Heads:
    rope, plain = fields.count("qk_rope_head_dim"), fields.count("qk_nope_head_dim")
    size = rope + plain if rope is not None and plain is not None else None
    return Heads(count, count, size or None, fields.size("v_head_dim"), "MLA")


def attention_kind(count: int | None, kv: int | None) -> AttentionKind | None:
    """Multi-head, grouped-query or multi-query attention, by the numbers of heads."""
    if count is None or kv is None:
        return None
    if kv == count:
        return "MHA"
    return "MQA" if kv == 1 else "GQA"


def kv_heads(fields: Fields, count: int | None) -> int | None:
    """Heads of keys and values; those of the queries where nothing else is said."""
    if fields.model_type == "falcon" and not fields.flag("new_decoder_architecture"):
        return 1 if fields.flag("multi_query", True) else count
    if fields.model_type == "gpt_bigcode":
        return 1 if fields.flag("multi_query", True) else count
    if fields.model_type == "chatglm" and not fields.flag("multi_query_attention"):
        return count
    if "num_key_value_heads" in fields.given and fields.given["num_key_value_heads"] is None:
        return count  # stated as nothing special, whatever the type's default is
    return fields.size("kv_heads") or count


def head_size(fields: Fields, count: int | None) -> int | None:
    """Width of one head: as stated, else the hidden size shared among the heads."""
    stated = fields.size("head")
    hidden = fields.size("hidden")
    if stated is not None:
        return stated
    return hidden // count or None if hidden and count else None
