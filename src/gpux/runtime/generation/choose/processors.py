"""Logits processors: they change the scores of the next token by the tokens so far.

Each function changes one row of scores in place, float32 ``[vocabulary]``; ids are all tokens so far, the prompt's
first. Order and arithmetic are those of transformers' ``generation/logits_process.py``, except where a docstring names
a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gpux.errors import UsageError
from gpux.runtime.generation.options import GenerationOptions

Scores = NDArray[np.float32]
Ids = NDArray[np.int64]
#: (scores to change, all ids so far, number of ids of the prompt)
Processor = Callable[[Scores, Ids, int], None]
_NEVER = np.float32(-np.inf)


def processors(options: GenerationOptions, most: int | None = None, read: Sequence[int] = ()) -> list[Processor]:
    """The processors that the options need, in transformers' order; may be empty.

    Args:
        options: of the generation.
        most: tokens that may be generated, if the context leaves less room than ``max_new_tokens``.
        read: token ids of the encoder's input; for a decoder without an encoder, the prompt.
    """
    found: list[Processor] = []
    if options.logit_bias:
        found.append(_adding(options.logit_bias))
    if options.encoder_repetition_penalty != 1.0:  # above 1, tokens of the input become more likely
        source_ids = np.asarray(read, np.int64)
        found.append(lambda scores, *_: penalize_repetition(scores, source_ids, 1 / options.encoder_repetition_penalty))
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
    if options.encoder_no_repeat_ngram_size:
        size, source = options.encoder_no_repeat_ngram_size, np.asarray(read, np.int64)
        found.append(lambda scores, ids, _: forbid_following(scores, source, ids[max(0, ids.size - size + 1) :], size))
    if words := [word for word in options.bad_words if not (len(word) == 1 and word[0] in options.eos_token_ids)]:
        found.append(lambda scores, ids, _: forbid_words(scores, ids, words))
    return found + _by_position(options, options.max_new_tokens if most is None else most)


def _by_position(options: GenerationOptions, most: int) -> list[Processor]:
    """The processors that depend on the number of tokens only."""
    found: list[Processor] = []
    if options.eos_token_ids and options.min_length and not options.min_new_tokens:  # min_new_tokens takes precedence
        found.append(_forbidding(options.eos_token_ids, lambda ids, _: ids.size < options.min_length))
    if options.eos_token_ids and options.min_new_tokens:
        found.append(_forbidding(options.eos_token_ids, lambda ids, prompt: ids.size - prompt < options.min_new_tokens))
    if options.forced_bos_token_id is not None:
        found.append(_forcing("forced_bos_token_id", (options.forced_bos_token_id,), lambda ids, _: ids.size == 1))
    if options.forced_eos_token_id:
        found.append(
            _forcing(
                "forced_eos_token_id", options.forced_eos_token_id, lambda ids, prompt: ids.size - prompt == most - 1
            )
        )
    if options.suppress_tokens:
        found.append(_forbidding(options.suppress_tokens, lambda *_: True))
    if options.begin_suppress_tokens:
        found.append(_forbidding(options.begin_suppress_tokens, lambda ids, prompt: _begins(ids, prompt, options)))
    return found


def penalize_repetition(scores: Scores, ids: Ids, penalty: float) -> None:
    """Divide positive scores of tokens that occurred by the penalty, and multiply negative ones (CTRL, 2019)."""
    seen = ids[ids < scores.size]
    found = scores[seen]  # a repeated token is written twice, with the same value
    scores[seen] = np.where(found < 0, found * np.float32(penalty), found / np.float32(penalty))


def penalize_counts(scores: Scores, generated: Ids, presence: float, frequency: float) -> None:
    """Subtract ``presence`` once, and ``frequency`` for each time that a token was generated (OpenAI's API)."""
    seen, counts = np.unique(generated, return_counts=True)
    scores[seen] -= np.float32(presence) + np.float32(frequency) * counts.astype(np.float32)


def forbid_repeated_ngrams(scores: Scores, ids: Ids, size: int) -> None:
    """Forbid tokens that would repeat a sequence of ``size`` tokens."""
    if ids.size >= size:
        forbid_following(scores, ids, ids[ids.size - size + 1 :], size)


def forbid_following(scores: Scores, read: Ids, begun: Ids, size: int) -> None:
    """Forbid tokens that complete a sequence of ``size`` tokens of ``read``, of which ``begun`` is all but the last."""
    if begun.size != size - 1 or read.size < size:
        return
    windows = np.lib.stride_tricks.sliding_window_view(read, size)
    forbid(scores, windows[(windows[:, :-1] == begun).all(axis=1), -1])


def forbid_words(scores: Scores, ids: Ids, words: Sequence[tuple[int, ...]]) -> None:
    """Forbid tokens that complete one of the sequences.

    Unlike transformers, also if the sequence begins with the first token of the prompt.
    """
    forbid(scores, [word[-1] for word in words if _ends_with(ids, word[:-1])])


def forbid(scores: Scores, tokens: Sequence[int] | Ids) -> None:
    """Set the scores of these tokens to -inf."""
    chosen = np.asarray(tokens, np.int64)
    scores[chosen[chosen < scores.size]] = _NEVER


def _ends_with(ids: Ids, beginning: tuple[int, ...]) -> bool:
    size = len(beginning)
    return size == 0 or (ids.size >= size and tuple(ids[ids.size - size :].tolist()) == beginning)


def _adding(biases: Sequence[tuple[int, float]]) -> Processor:
    """A processor that adds a number to the scores of tokens (``logit_bias`` of OpenAI's API)."""
    tokens = np.array([token for token, _ in biases], np.int64)
    added = np.array([bias for _, bias in biases], np.float32)

    def process(scores: Scores, ids: Ids, prompt: int) -> None:
        _check_known("logit_bias", int(tokens.max()), scores)
        scores[tokens] += added

    return process


def _check_known(name: str, token: int, scores: Scores) -> None:
    if token >= scores.size:
        raise UsageError(
            f"{name} is {token}, and the model's vocabulary ends at {scores.size - 1}",
            hint=f"Give another {name}.",
        )


def _forbidding(tokens: Sequence[int], applies: Callable[[Ids, int], bool]) -> Processor:
    chosen = np.asarray(tokens, np.int64)

    def process(scores: Scores, ids: Ids, prompt: int) -> None:
        if applies(ids, prompt):
            forbid(scores, chosen)

    return process


def _forcing(name: str, tokens: Sequence[int], applies: Callable[[Ids, int], bool]) -> Processor:
    """A processor that allows only these tokens."""
    chosen = np.asarray(tokens, np.int64)

    def process(scores: Scores, ids: Ids, prompt: int) -> None:
        if not applies(ids, prompt):
            return
        _check_known(name, int(chosen.max()), scores)
        scores.fill(_NEVER)
        scores[chosen] = 0.0

    return process


def _begins(ids: Ids, prompt: int, options: GenerationOptions) -> bool:
    """Whether this is the first token that the model chooses, after a forced one."""
    forced = prompt == 1 and options.forced_bos_token_id is not None
    return ids.size - prompt == int(forced)
