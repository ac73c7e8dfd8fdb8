"""How many tokens a model takes: positions, stretched ones, and windows that slide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpux.inspect.architecture.fields import LARGEST, Fields, whole
from gpux.inspect.architecture.shapes import RopeScaling

#: Scalings of which ``max_position_embeddings`` is the length before stretching, as transformers reads it.
_BEFORE = frozenset({"dynamic", "yarn"})
#: Types that state the length after a linear stretching, as their papers say.
_AFTER = frozenset({"gemma3_text"})
#: Scalings that change nothing of the length.
_NEUTRAL = frozenset({"default", "mrope", "none"})
#: Types whose layers slide but for each n-th: the default of n.
_PATTERNS = {"gemma2": 2, "gemma3_text": 6, "cohere2": 4, "gpt_oss": 2, "olmo3": 4, "llama4_text": 4, "modernbert": 3}
_SLIDING = frozenset({"sliding_attention", "chunked_attention", "local"})


def find_scaling(fields: Fields) -> RopeScaling | None:
    """The stretching of rotary positions; None where there is none."""
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
    """(tokens, tokens before stretching, a note where the file can be read in two ways)."""
    stated = _stated(fields)
    if stated is None or scaling is None:
        return stated, None, None
    factor, original = scaling.factor, scaling.original_length
    if scaling.kind in _BEFORE:
        first = original or stated
        return max(stated, int(first * factor) if factor else stated), first, None
    if scaling.kind == "linear" and original is None and factor and fields.model_type not in _AFTER:
        return stated, None, _either(stated, factor)
    return stated, original, None


def _either(stated: int, factor: float) -> str:
    return (
        f"rope_scaling stretches by {factor:g}: the file does not tell whether the context of {stated} is before or "
        "after that"
    )


def _stated(fields: Fields) -> int | None:
    """The longest of the lengths that the file states under different names for different things.

    ``max_sequence_length`` (Vicuna) and ``model_max_length`` (Command R) are the length in use beside the positions
    that the rotary embedding was made with.
    """
    base = fields.size("context")
    longer = (_length(fields.given.get(name)) for name in ("max_sequence_length", "model_max_length"))
    if base is None or fields.model_type in _LEARNED:
        return base
    return max([base, *(length for length in longer if length and length < 1 << 30)])


#: Types with a table of positions, which no other value makes longer; two rows of it are the padding's offset.
_LEARNED = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "mpnet", "gpt2", "opt", "bart", "whisper"})
_OFFSET = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet"})


def usable_positions(fields: Fields, context: int | None) -> int | None:
    """Tokens of the table of positions: RoBERTa's first two rows are never a token's place."""
    if context is not None and context > 2 and fields.model_type in _OFFSET:
        return context - 2
    return context


def sliding(fields: Fields, layers: int | None, context: int | None) -> tuple[int | None, int | None]:
    """(window, layers that slide); (None, None) where no layer does, or the window holds the whole context.

    A window that the file states and switches off, as Qwen2 does, is none.
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
        told = name in fields.given or fields.model_type in _PATTERNS
        if told and (found := fields.size(name)) is not None:
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
