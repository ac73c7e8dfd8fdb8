"""How many tokens a model has positions for.

---
Lengths from which a model takes another way inside, found in its configuration.

Only what depends on the length of the text is one: the rope scalings ``linear``, ``yarn`` and ``llama3`` change every
position alike, so that any length proves them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


#: Names that transformers gives to a table of positions.
TABLES = frozenset({"position_embeddings", "position_embedding", "embed_positions", "positions_embed", "wpe"})
#: Parts of a module's name that say that it reads no text.
NOT_TEXT_MODULES = ("vision", "visual", "image", "audio", "patch")
#: Names that configurations give to the number.
NUMBERS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_target_positions")


@dataclass(frozen=True)
class Positions:
    """How many tokens a model takes."""

    limit: int | None  #: None where nothing limits it
    hard: bool  #: beyond, there is no position; else it was only never trained there


def positions(module: torch.nn.Module, config: Any) -> Positions:
    """What limits the tokens of a model, or of the part of it that reads text.

    The table of positions tells: roberta and its kin number them from behind the padding index, so that many rows are
    lost; bart has an ``offset``. Others leave rows free without a sign, so the config's number is a limit too.
    """
    rows = [_rows(child) for name, child in module.named_modules() if _is_position_table(name, child)]
    numbers = [getattr(config, name, None) for name in NUMBERS]
    limits = rows + [number for number in numbers if isinstance(number, int) and number > 0]
    return Positions(min(limits, default=None), bool(rows))


def position_limit(model: Any) -> int | None:
    """Tokens that the model has positions for; None where nothing limits it."""
    return positions(model, model.config).limit


def _is_position_table(name: str, module: torch.nn.Module) -> bool:
    table = _table(module)
    if any(word in name for word in NOT_TEXT_MODULES):
        return False
    return name.rpartition(".")[2] in TABLES and getattr(table, "ndim", None) == 2


def _table(module: torch.nn.Module) -> Any:
    """Its rows: ibert's table is no torch.nn.Embedding; m2m_100's sinusoids are a buffer of another name."""
    return getattr(module, "weight", getattr(module, "weights", None))


def _rows(module: torch.nn.Module) -> int:
    """Rows that positions of tokens can take."""
    padding = getattr(module, "padding_idx", None)
    lost = getattr(module, "offset", 0) if padding is None else padding + 1
    return int(_table(module).shape[0]) - int(lost)


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
