"""Lengths from which a model takes another way inside, found in its configuration.

Only what depends on the length of the text is one: the rope scalings ``linear``, ``yarn`` and ``llama3`` change every
position alike, so that any length proves them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

#: Parts of a composed configuration that read no text.
NOT_TEXT = ("vision_config", "audio_config", "vision_encoder", "audio_encoder", "backbone_config")
#: Scalings that compute other rotations once a text is long: an exporter that traces keeps one of the two.
LENGTH_DEPENDENT_ROPE = ("dynamic", "longrope", "su")


@dataclass(frozen=True)
class Found:
    """A length in a configuration."""

    name: str
    length: int  #: tokens; the other way begins one further
    capped: bool = False  #: known to be frozen by tracing whatever a proof on a small model shows


def find_thresholds(config: Any) -> list[Found]:
    """All of them, each name and length once, shortest first."""
    found = {one for part in text_parts(config) for one in _of(part)}
    return sorted(found, key=lambda one: (one.length, one.name))


def text_parts(config: Any) -> Iterator[Any]:
    """The configuration and those inside it, except what reads no text."""
    yield config
    for name, value in vars(config).items():
        if name not in NOT_TEXT and hasattr(value, "to_dict") and hasattr(value, "model_type"):
            yield from text_parts(value)


def _of(config: Any) -> Iterator[Found]:
    yield from _windows(config)
    yield from _rope(config)
    if getattr(config, "attention_type", None) == "block_sparse":
        blocks = 5 + 2 * int(config.num_random_blocks)  # where transformers turns from full to sparse attention
        yield Found("block_sparse", blocks * int(config.block_size), capped=True)


def _windows(config: Any) -> Iterator[Found]:
    if _slides(config):
        yield Found("sliding_window", int(config.sliding_window))
    if "local" in _names(getattr(config, "attention_layers", None)):
        yield Found("window_size", int(config.window_size))
    for name in ("local_attention", "attention_window"):  # both count the two sides of a token
        window = getattr(config, name, None)
        sizes = window if isinstance(window, (list, tuple)) else [window]
        yield from {Found(name, size // 2) for size in sizes if isinstance(size, int) and size > 1}
    chunk = getattr(config, "attention_chunk_size", None)
    if isinstance(chunk, int) and chunk > 0:
        yield Found("attention_chunk_size", chunk)


def _slides(config: Any) -> bool:
    window = getattr(config, "sliding_window", None)
    if not isinstance(window, int) or window <= 0 or getattr(config, "use_sliding_window", True) is False:
        return False
    kinds = _names(getattr(config, "layer_types", None))
    return not kinds or any("sliding" in kind for kind in kinds)


def _names(value: Any) -> set[str]:
    return {str(one) for one in value} if isinstance(value, (list, tuple)) else set()


def _rope(config: Any) -> Iterator[Found]:
    for scaling in _scalings(config):
        kind = scaling.get("rope_type", scaling.get("type"))
        if kind not in LENGTH_DEPENDENT_ROPE:
            continue
        original = scaling.get("original_max_position_embeddings")
        if kind != "dynamic":
            original = original or getattr(config, "original_max_position_embeddings", None)
        length = original or getattr(config, "max_position_embeddings", None)
        if isinstance(length, int):
            yield Found(f"rope_{kind}", length, capped=True)


def _scalings(config: Any) -> Iterator[dict[str, Any]]:
    """``rope_scaling`` of transformers 4, ``rope_parameters`` of 5: one, or one per kind of layer."""
    for name in ("rope_scaling", "rope_parameters"):
        found = getattr(config, name, None)
        if isinstance(found, dict):
            yield found
            yield from (value for value in found.values() if isinstance(value, dict))
