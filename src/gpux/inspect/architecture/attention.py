"""Attention heads, context length, rotary scaling and sliding windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gpux.inspect.architecture.fields import LARGEST, Fields, whole
from gpux.model.values import Value

AttentionKind = Literal["MHA", "GQA", "MQA", "MLA", "none"]

#: Model types without attention.
STATE_SPACE = frozenset({"mamba", "mamba2", "falcon_mamba", "rwkv", "xlstm"})
#: Convolutional model types.
CONVOLUTION = frozenset(
    {"resnet", "convnext", "convnextv2", "regnet", "efficientnet", "mobilenet_v1", "mobilenet_v2", "bit", "van"}
)


@dataclass(frozen=True)
class Heads(Value):
    """The attention heads of one layer."""

    count: int | None
    kv: int | None  #: key/value heads
    size: int | None  #: width of a query and key head
    value_size: int | None  #: width of a value head
    kind: AttentionKind | None


def find_heads(fields: Fields) -> Heads:
    """The heads of the configuration; None for values that it does not state."""
    if fields.model_type in STATE_SPACE or fields.model_type in CONVOLUTION:
        return Heads(None, None, None, None, "none")
    count = fields.size("heads")
    if count is None and fields.counts("num_heads"):
        return Heads(None, None, None, None, "MHA")  # each stage has its own number (Swin)
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
    """Number of key/value heads; default: the number of query heads."""
    if fields.model_type == "falcon" and not fields.flag("new_decoder_architecture"):
        return 1 if fields.flag("multi_query", True) else count
    if fields.model_type == "gpt_bigcode":
        return 1 if fields.flag("multi_query", True) else count
    if fields.model_type == "chatglm" and not fields.flag("multi_query_attention"):
        return count
    if "num_key_value_heads" in fields.given and fields.given["num_key_value_heads"] is None:
        return count  # null means multi-head attention, whatever the default of the type is
    return fields.size("kv_heads") or count


def head_size(fields: Fields, count: int | None) -> int | None:
    """Width of one head: as stated, else hidden size / heads."""
    stated = fields.size("head")
    hidden = fields.size("hidden")
    if stated is not None:
        return stated
    return hidden // count or None if hidden and count else None


#: Scalings for which ``max_position_embeddings`` is the length before scaling, as in transformers.
_BEFORE = frozenset({"dynamic", "yarn"})
#: Types that state the length after linear scaling, according to their papers.
_AFTER = frozenset({"gemma3_text"})
#: Scalings that do not change the length.
_NEUTRAL = frozenset({"default", "mrope", "none"})
#: Types in which every n-th layer has full attention and the others a sliding window: the default of n.
_PATTERNS = {"gemma2": 2, "gemma3_text": 6, "cohere2": 4, "gpt_oss": 2, "olmo3": 4, "llama4_text": 4, "modernbert": 3}
_SLIDING = frozenset({"sliding_attention", "chunked_attention", "local"})


@dataclass(frozen=True)
class RopeScaling(Value):
    """Scaling of rotary position embeddings beyond the original training context."""

    kind: str  #: ``linear``, ``dynamic``, ``yarn``, ``longrope``, ``llama3``, ``mrope`` …
    factor: float | None
    original_length: int | None  #: tokens before scaling


def find_scaling(fields: Fields) -> RopeScaling | None:
    """The scaling of rotary position embeddings; None without scaling."""
    found = fields.mapping("rope_scaling", "rope_parameters")
    nested = found.get("full_attention")
    found = nested if isinstance(nested, Mapping) else found
    kind = found.get("rope_type") or found.get("type")
    if not isinstance(kind, str) or kind in _NEUTRAL:
        return None
    original = _length(found.get("original_max_position_embeddings")) or fields.size("original_max_position_embeddings")
    return RopeScaling(kind, _factor(found), original)


def _factor(found: Mapping[str, Any]) -> float | None:
    factor = found.get("factor")
    if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not 1 <= factor <= 1e6:
        return None
    return float(factor)


def _length(value: object) -> int | None:
    number = whole(value)
    return number if number is not None and 0 < number <= LARGEST else None


def context_lengths(fields: Fields, scaling: RopeScaling | None) -> tuple[int | None, int | None, str | None]:
    """Returns (tokens, tokens before scaling, a note if the file is ambiguous)."""
    stated = _stated(fields)
    if stated is None or scaling is None:
        return stated, None, None
    factor, original = scaling.factor, scaling.original_length
    if scaling.kind in _BEFORE:
        first = original or stated
        return max(stated, int(first * factor) if factor else stated), first, None
    if scaling.kind == "linear" and original is None and factor and fields.model_type not in _AFTER:
        return stated, None, _ambiguous(stated, factor)
    return stated, original, None


def _ambiguous(stated: int, factor: float) -> str:
    return (
        f"rope_scaling has factor {factor:g}, and the file does not state whether the context of {stated} is "
        "the length before or after scaling"
    )


def _stated(fields: Fields) -> int | None:
    """The longest of the lengths that the file states.

    ``max_sequence_length`` (Vicuna) and ``model_max_length`` (Command R) are the usable length, which may exceed
    ``max_position_embeddings``, for which the rotary embedding was created.
    """
    base = fields.size("context")
    longer = (_length(fields.given.get(name)) for name in ("max_sequence_length", "model_max_length"))
    if base is None or fields.model_type in _LEARNED:
        return base
    return max([base, *(length for length in longer if length and length < 1 << 30)])


#: Types with learned positions: their table limits the context. In :data:`_OFFSET`, its first two rows are padding.
_LEARNED = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "mpnet", "gpt2", "opt", "bart", "whisper"})
_OFFSET = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet"})


def usable_positions(fields: Fields, context: int | None) -> int | None:
    """Usable rows of the position table; RoBERTa never uses the first two."""
    if context is not None and context > 2 and fields.model_type in _OFFSET:
        return context - 2
    return context


def sliding(fields: Fields, layers: int | None, context: int | None) -> tuple[int | None, int | None]:
    """Returns (window in tokens, number of sliding layers); (None, None) if no layer has a sliding window.

    A window as large as the context, or one that the file disables (Qwen2), is ignored.
    """
    window = _window(fields)
    if window is None or fields.given.get("use_sliding_window") is False or (context and window >= context):
        return None, None
    if "use_sliding_window" not in fields.given and fields.raw("use_sliding_window") is False:
        return None, None
    kinds = fields.items("layer_types") or fields.items("attention_layers")
    if kinds:
        count = sum(kind in _SLIDING for kind in kinds if isinstance(kind, str))
        return (window, count) if count else (None, None)
    found = _by_pattern(fields, layers) if layers is not None else None
    return (None, None) if found == 0 else (window, found)


def _window(fields: Fields) -> int | None:
    for name in ("sliding_window", "attention_chunk_size", "local_attention"):
        used = name in fields.given or fields.model_type in _PATTERNS
        if used and (found := fields.size(name)) is not None:
            return found
    if fields.model_type == "gpt_neo":
        return fields.size("window_size")
    return fields.size("sliding_window")


def _by_pattern(fields: Fields, layers: int) -> int:
    if (first := fields.count("max_window_layers")) is not None:
        return max(0, layers - first)
    if fields.model_type == "modernbert":
        every = fields.size("global_attn_every_n_layers") or 3
        return layers - len(range(0, layers, every))
    stated = fields.size("sliding_window_pattern") or fields.size("_sliding_window_pattern")
    every = stated or _PATTERNS.get(fields.model_type or "") or 0
    return layers - layers // every if every > 1 else layers
