"""How many tokens a model has positions for."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

#: Names that transformers gives to a table of learned positions.
TABLES = frozenset({"position_embeddings", "embed_positions", "wpe"})


def position_limit(model: PreTrainedModel) -> int | None:
    """Tokens that the model has positions for; None where nothing limits it.

    The table of positions tells: roberta and its kin number them from behind the padding index, so that many rows are
    lost; bart has an ``offset``. Others leave rows free without a sign, so the config's number is a limit too.
    """
    limits = [_rows(module) for name, module in model.named_modules() if _is_position_table(name, module)]
    config = getattr(model.config, "max_position_embeddings", None)
    if isinstance(config, int) and config > 0:
        limits.append(config)
    sparse = _sparse_limit(model.config)
    if sparse is not None:
        limits.append(sparse)
    return min(limits, default=None)


def _is_position_table(name: str, module: torch.nn.Module) -> bool:
    weight = getattr(module, "weight", None)  # ibert's table is no torch.nn.Embedding
    return name.rpartition(".")[2] in TABLES and isinstance(weight, torch.Tensor) and weight.ndim == 2


def _rows(table: torch.nn.Module) -> int:
    """Rows that positions of tokens can take."""
    padding = getattr(table, "padding_idx", None)
    lost = getattr(table, "offset", 0) if padding is None else padding + 1
    return int(table.weight.shape[0]) - int(lost)


def _sparse_limit(config: Any) -> int | None:
    """Where big_bird's attention turns from full to sparse: the graph has only the one that was traced."""
    if getattr(config, "attention_type", None) != "block_sparse":
        return None
    return int((5 + 2 * config.num_random_blocks) * config.block_size)
