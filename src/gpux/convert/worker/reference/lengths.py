"""Lengths that matter to a model: how many tokens it supports, and from which lengths it computes differently.

A threshold is a length in the configuration from which the model computes differently, such as a sliding window. Only a
dependence on the length of the text counts: the rope scalings ``linear``, ``yarn`` and ``llama3`` change every position
alike, so that any length proves them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


#: Names of position embeddings in transformers.
TABLES = frozenset({"position_embeddings", "position_embedding", "embed_positions", "positions_embed", "wpe"})
#: Substrings of the names of modules that do not process text.
NOT_TEXT_MODULES = ("vision", "visual", "image", "audio", "patch")
#: Names of the number of positions in configurations.
NUMBERS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_target_positions")


@dataclass(frozen=True)
class Positions:
    """How many tokens a model supports."""

    limit: int | None  #: None if there is no limit
    hard: bool  #: there are no positions beyond the limit; else the model was only not trained beyond it


def positions(module: torch.nn.Module, config: Any) -> Positions:
    """The limit of a model, or of the part of it that processes text.

    It is the size of the position embeddings: roberta and derived models number positions after the padding index, so
    that some rows are not usable; bart has an ``offset``. Other models do not use all rows, so the number in the config
    is a limit too.
    """
    rows = [_rows(child) for name, child in module.named_modules() if _is_position_table(name, child)]
    numbers = [getattr(config, name, None) for name in NUMBERS]
    limits = rows + [number for number in numbers if isinstance(number, int) and number > 0]
    return Positions(min(limits, default=None), bool(rows))


def position_limit(model: Any) -> int | None:
    """Tokens that the model has positions for; None if there is no limit."""
    return positions(model, model.config).limit


def _is_position_table(name: str, module: torch.nn.Module) -> bool:
    table = _table(module)
    if any(word in name for word in NOT_TEXT_MODULES):
        return False
    return name.rpartition(".")[2] in TABLES and getattr(table, "ndim", None) == 2


def _table(module: torch.nn.Module) -> Any:
    """Position embeddings; ibert's are not a torch.nn.Embedding, and m2m_100's are a buffer of another name."""
    return getattr(module, "weight", getattr(module, "weights", None))


def _rows(module: torch.nn.Module) -> int:
    """The number of rows that tokens can use."""
    padding = getattr(module, "padding_idx", None)
    unused = getattr(module, "offset", 0) if padding is None else padding + 1
    return int(_table(module).shape[0]) - int(unused)


#: Parts of a composed configuration that do not process text.
NOT_TEXT = ("vision_config", "audio_config", "vision_encoder", "audio_encoder", "backbone_config")
#: Scalings that change the rotations of long texts: a traced graph has only one of the two computations.
LENGTH_DEPENDENT_ROPE = ("dynamic", "longrope", "su")


@dataclass(frozen=True)
class LengthThreshold:
    """A length in a configuration."""

    name: str
    length: int  #: tokens; the model computes differently from one token more
    capped: bool = False  #: known to be frozen by tracing, even if a small model does not show this


def find_thresholds(config: Any) -> list[LengthThreshold]:
    """All thresholds of a configuration, each name and length once, shortest first."""
    found = {one for part in text_parts(config) for one in _of(part)}
    return sorted(found, key=lambda one: (one.length, one.name))


def text_parts(config: Any) -> Iterator[Any]:
    """The configuration and those inside it, except for parts that do not process text."""
    yield config
    for name, value in vars(config).items():
        if name not in NOT_TEXT and hasattr(value, "to_dict") and hasattr(value, "model_type"):
            yield from text_parts(value)


def _of(config: Any) -> Iterator[LengthThreshold]:
    yield from _windows(config)
    yield from _rope(config)
    if getattr(config, "attention_type", None) == "block_sparse":
        blocks = 5 + 2 * int(config.num_random_blocks)  # the length up to which transformers uses full attention
        yield LengthThreshold("block_sparse", blocks * int(config.block_size), capped=True)


def _windows(config: Any) -> Iterator[LengthThreshold]:
    if _slides(config):
        yield LengthThreshold("sliding_window", int(config.sliding_window))
    if "local" in _names(getattr(config, "attention_layers", None)):
        yield LengthThreshold("window_size", int(config.window_size))
    for name in ("local_attention", "attention_window"):  # both count the two sides of a token together
        window = getattr(config, name, None)
        sizes = window if isinstance(window, (list, tuple)) else [window]
        yield from {LengthThreshold(name, size // 2) for size in sizes if isinstance(size, int) and size > 1}
    chunk = getattr(config, "attention_chunk_size", None)
    if isinstance(chunk, int) and chunk > 0:
        yield LengthThreshold("attention_chunk_size", chunk)


def _slides(config: Any) -> bool:
    window = getattr(config, "sliding_window", None)
    if not isinstance(window, int) or window <= 0 or getattr(config, "use_sliding_window", True) is False:
        return False
    kinds = _names(getattr(config, "layer_types", None))
    return not kinds or any("sliding" in kind for kind in kinds)


def _names(value: Any) -> set[str]:
    return {str(one) for one in value} if isinstance(value, (list, tuple)) else set()


def _rope(config: Any) -> Iterator[LengthThreshold]:
    for scaling in _scalings(config):
        kind = scaling.get("rope_type", scaling.get("type"))
        if kind not in LENGTH_DEPENDENT_ROPE:
            continue
        original = scaling.get("original_max_position_embeddings")
        if kind != "dynamic":
            original = original or getattr(config, "original_max_position_embeddings", None)
        length = original or getattr(config, "max_position_embeddings", None)
        if isinstance(length, int):
            yield LengthThreshold(f"rope_{kind}", length, capped=True)


def _scalings(config: Any) -> Iterator[dict[str, Any]]:
    """``rope_scaling`` of transformers 4, ``rope_parameters`` of 5: one, or one for each kind of layer."""
    for name in ("rope_scaling", "rope_parameters"):
        found = getattr(config, name, None)
        if isinstance(found, dict):
            yield found
            yield from (value for value in found.values() if isinstance(value, dict))
