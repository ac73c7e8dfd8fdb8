"""How many tokens a model has positions for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

#: Names that transformers gives to a table of positions.
TABLES = frozenset({"position_embeddings", "position_embedding", "embed_positions", "positions_embed", "wpe"})
#: Parts of a module's name that say that it reads no text.
NOT_TEXT = ("vision", "visual", "image", "audio", "patch")
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
    if any(word in name for word in NOT_TEXT):
        return False
    return name.rpartition(".")[2] in TABLES and isinstance(table, torch.Tensor) and table.ndim == 2


def _table(module: torch.nn.Module) -> Any:
    """Its rows: ibert's table is no torch.nn.Embedding; m2m_100's sinusoids are a buffer of another name."""
    return getattr(module, "weight", getattr(module, "weights", None))


def _rows(module: torch.nn.Module) -> int:
    """Rows that positions of tokens can take."""
    padding = getattr(module, "padding_idx", None)
    lost = getattr(module, "offset", 0) if padding is None else padding + 1
    return int(_table(module).shape[0]) - int(lost)
