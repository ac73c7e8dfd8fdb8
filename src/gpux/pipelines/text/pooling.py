"""From token vectors to one vector per text: the pooling modes of sentence-transformers.

Formulas: ``sentence_transformers/sentence_transformer/modules/pooling.py`` of 5.7, the path for padded batches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_TINY = np.float32(1e-9)


def cls(tokens: Floats, mask: NDArray[Any]) -> Floats:
    """The first token that counts."""
    return _at(tokens, mask.argmax(axis=1))


def mean(tokens: Floats, mask: NDArray[Any]) -> Floats:
    """Mean over the tokens that count."""
    weights = mask.astype(np.float32)
    return _floats(_weighted_sum(tokens, weights) / _total(weights))


def mean_sqrt_len(tokens: Floats, mask: NDArray[Any]) -> Floats:
    """Sum over the tokens that count, divided by the square root of their number."""
    weights = mask.astype(np.float32)
    return _floats(_weighted_sum(tokens, weights) / np.sqrt(_total(weights)))


def weighted_mean(tokens: Floats, mask: NDArray[Any]) -> Floats:
    """Mean in which the token at position i (from 1, padding included) has the weight i."""
    weights = mask.astype(np.float32) * np.arange(1, mask.shape[1] + 1, dtype=np.float32)
    return _floats(_weighted_sum(tokens, weights) / _total(weights))


def maximum(tokens: Floats, mask: NDArray[Any]) -> Floats:
    """Largest value per dimension."""
    return _floats(np.where(mask[:, :, None] == 0, -np.inf, tokens).max(axis=1))


def last_token(tokens: Floats, mask: NDArray[Any]) -> Floats:
    """The last token that counts; zeros where none does."""
    found = _at(tokens, mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1))
    return _floats(found * (mask.max(axis=1, keepdims=True) > 0))


#: mode -> function of float32 [batch, tokens, dim] and a mask [batch, tokens]; in sentence-transformers' own order
MODES: dict[str, Callable[[Floats, NDArray[Any]], Floats]] = {
    "cls": cls,
    "max": maximum,
    "mean": mean,
    "mean_sqrt_len_tokens": mean_sqrt_len,
    "weightedmean": weighted_mean,
    "lasttoken": last_token,
}


def without_prompt(mask: NDArray[Any], prompt_length: int) -> NDArray[Any]:
    """The mask without the first ``prompt_length`` tokens of each text, whichever side is padded."""
    start = mask.argmax(axis=1)[:, None] + prompt_length
    return np.where(np.arange(mask.shape[1])[None, :] < start, 0, mask)


def _at(tokens: Floats, positions: NDArray[Any]) -> Floats:
    return _floats(tokens[np.arange(len(tokens)), positions])


def _weighted_sum(tokens: Floats, weights: Floats) -> Floats:
    return _floats(np.matmul(weights[:, None, :], tokens)[:, 0, :])


def _total(weights: Floats) -> Floats:
    return _floats(np.maximum(weights.sum(axis=1, keepdims=True), _TINY))


def _floats(values: NDArray[Any]) -> Floats:
    return values.astype(np.float32, copy=False)
