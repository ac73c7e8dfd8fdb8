"""What may come next: scores of the next token, changed by what came before.

Each function takes one row of scores, float32 [vocabulary], and the token ids so far, and answers the changed row; none
writes into what it is given. The arithmetic is that of transformers' ``generation/logits_process.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gpux.runtime.generation.options import GenerationOptions

Scores = NDArray[np.float32]
Ids = NDArray[np.int64]
#: scores, all ids so far, how many of them are the prompt's -> scores
Processor = Callable[[Scores, Ids, int], Scores]
_NEVER = np.float32(-np.inf)


def processors(options: GenerationOptions) -> list[Processor]:
    """The processors that the options ask for, in transformers' order; empty where every token may come as it is."""
    found: list[Processor] = []
    if options.repetition_penalty != 1.0:
        found.append(lambda scores, ids, _: penalize_repetition(scores, ids, options.repetition_penalty))
    if options.presence_penalty or options.frequency_penalty:
        found.append(
            lambda scores, ids, prompt: penalize_counts(
                scores, ids[prompt:], options.presence_penalty, options.frequency_penalty
            )
        )
    if options.no_repeat_ngram_size:
        found.append(lambda scores, ids, _: forbid_repeated_ngrams(scores, ids, options.no_repeat_ngram_size))
    if options.bad_words:
        found.append(lambda scores, ids, _: forbid_words(scores, ids, options.bad_words))
    if options.min_new_tokens and options.eos_token_ids:
        found.append(lambda scores, ids, prompt: _not_yet(scores, ids.size - prompt, options))
    if options.forced_bos_token_id is not None or options.forced_eos_token_id is not None:
        found.append(lambda scores, ids, prompt: _forced(scores, ids.size - prompt, options))
    if options.suppress_tokens:
        found.append(lambda scores, ids, _: forbid(scores, options.suppress_tokens))
    if options.begin_suppress_tokens:
        found.append(
            lambda scores, ids, prompt: scores if ids.size > prompt else forbid(scores, options.begin_suppress_tokens)
        )
    return found


def penalize_repetition(scores: Scores, ids: Ids, penalty: float) -> Scores:
    """Positive scores of tokens that came are divided by the penalty, negative ones multiplied (CTRL, 2019)."""
    seen = np.unique(ids)
    changed = scores.copy()
    found = scores[seen]
    changed[seen] = np.where(found < 0, found * np.float32(penalty), found / np.float32(penalty))
    return changed


def penalize_counts(scores: Scores, generated: Ids, presence: float, frequency: float) -> Scores:
    """``presence`` once and ``frequency`` as often as a token was generated are taken off (OpenAI's API)."""
    seen, counts = np.unique(generated, return_counts=True)
    changed = scores.copy()
    changed[seen] -= np.float32(presence) + np.float32(frequency) * counts.astype(np.float32)
    return changed


def forbid_repeated_ngrams(scores: Scores, ids: Ids, size: int) -> Scores:
    """No token that would repeat a sequence of ``size`` tokens."""
    if size == 1:
        return forbid(scores, np.unique(ids))
    begun = ids[ids.size - size + 1 :]
    windows = (
        np.lib.stride_tricks.sliding_window_view(ids, size) if ids.size >= size else np.empty((0, size), ids.dtype)
    )
    return forbid(scores, windows[(windows[:, :-1] == begun).all(axis=1), -1])


def forbid_words(scores: Scores, ids: Ids, words: Sequence[tuple[int, ...]]) -> Scores:
    """No token that would complete one of the sequences."""
    last = [word[-1] for word in words if _ends_with(ids, word[:-1])]
    return forbid(scores, last)


def forbid(scores: Scores, tokens: Sequence[int] | Ids) -> Scores:
    """These tokens cannot come."""
    chosen = np.asarray(tokens, np.int64)
    changed = scores.copy()
    changed[chosen[chosen < scores.size]] = _NEVER
    return changed


def only(scores: Scores, token: int) -> Scores:
    """Nothing but this token can come."""
    changed = np.full_like(scores, _NEVER)
    changed[token] = 0.0
    return changed


def _ends_with(ids: Ids, beginning: tuple[int, ...]) -> bool:
    size = len(beginning)
    return size == 0 or (ids.size >= size and tuple(ids[ids.size - size :].tolist()) == beginning)


def _not_yet(scores: Scores, generated: int, options: GenerationOptions) -> Scores:
    return forbid(scores, options.eos_token_ids) if generated < options.min_new_tokens else scores


def _forced(scores: Scores, generated: int, options: GenerationOptions) -> Scores:
    if generated == 0 and options.forced_bos_token_id is not None:
        return only(scores, options.forced_bos_token_id)
    if generated == options.max_new_tokens - 1 and options.forced_eos_token_id is not None:
        return only(scores, options.forced_eos_token_id)
    return scores
