"""Which token is taken: the likeliest, or one that is drawn from a distribution that was cut down before.

The filters work on one row of scores, float32 [vocabulary]; what they leave out is -inf. Their arithmetic is that of
transformers' ``generation/logits_process.py``, with at least one token left.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gpux.runtime.generation.options import GenerationOptions

Scores = NDArray[np.float32]
Filter = Callable[[Scores], Scores]
_NEVER = np.float32(-np.inf)


def filters(options: GenerationOptions) -> list[Filter]:
    """The filters that the options ask for, in transformers' order."""
    found: list[Filter] = []
    if options.temperature != 1.0:
        found.append(lambda scores: scores / np.float32(options.temperature))
    if options.top_k:
        found.append(lambda scores: keep_top_k(scores, options.top_k))
    if options.top_p < 1.0:
        found.append(lambda scores: keep_top_p(scores, options.top_p))
    if options.min_p > 0.0:
        found.append(lambda scores: keep_min_p(scores, options.min_p))
    if options.typical_p < 1.0:
        found.append(lambda scores: keep_typical(scores, options.typical_p))
    return found


def keep_top_k(scores: Scores, count: int) -> Scores:
    """The ``count`` best, and what is as good as the last of them."""
    if count >= scores.size:
        return scores
    worst = np.partition(scores, scores.size - count)[scores.size - count]
    return np.where(scores < worst, _NEVER, scores)


def keep_top_p(scores: Scores, mass: float) -> Scores:
    """The fewest that together have at least the probability ``mass`` (Holtzman et al., 2020)."""
    order = np.argsort(scores, kind="stable")  # the worst first
    cumulated = np.cumsum(softmax(scores[order]))
    removed = cumulated <= 1 - mass
    removed[-1] = False
    return _without(scores, order[removed])


def keep_min_p(scores: Scores, share: float) -> Scores:
    """Those that are at least ``share`` times as likely as the best one."""
    probabilities = softmax(scores)
    removed = probabilities < np.float32(share) * probabilities.max()
    removed[int(np.argmax(scores))] = False
    return np.where(removed, _NEVER, scores)


def keep_typical(scores: Scores, mass: float) -> Scores:
    """Those whose surprise is nearest to the distribution's entropy, up to ``mass`` (Meister et al., 2023)."""
    logs = log_softmax(scores)
    probabilities = np.exp(logs)
    entropy = -np.nansum(np.where(probabilities > 0, logs * probabilities, 0), dtype=np.float32)
    distance = np.abs(-logs - entropy)
    order = np.argsort(distance, kind="stable")
    cumulated = np.cumsum(probabilities[order])
    last = min(int((cumulated < mass).sum()), scores.size - 1)
    return np.where(distance > distance[order[last]], _NEVER, scores)


def softmax(scores: Scores) -> Scores:
    """Probabilities; -inf has none."""
    raised = np.exp(scores - scores.max())
    found: Scores = raised / raised.sum()
    return found


def log_softmax(scores: Scores) -> Scores:
    """Logarithms of the probabilities."""
    shifted = scores - scores.max()
    found: Scores = shifted - np.log(np.exp(shifted).sum())
    return found


class Chooser:
    """Takes the next token of one row; a seeded one draws the same tokens again.

    Args:
        options: how.
        stream: number of the row, so that rows of one seed differ.
    """

    def __init__(self, options: GenerationOptions, stream: int = 0) -> None:
        self._filters = filters(options) if options.do_sample else []
        self._draws = options.do_sample
        seed = None if options.seed is None else [options.seed, stream]
        self._random = np.random.default_rng(seed)

    def choose(self, scores: Scores) -> int:
        """The token, by its scores after all processors."""
        if not self._draws:
            return int(np.argmax(scores))
        for cut in self._filters:
            scores = cut(scores)
        kept = np.flatnonzero(scores > _NEVER)
        cumulated = np.cumsum(softmax(scores[kept]), dtype=np.float64)
        drawn = self._random.random() * cumulated[-1]
        return int(kept[min(int(np.searchsorted(cumulated, drawn, side="right")), kept.size - 1)])


def _without(scores: Scores, indices: NDArray[np.int64]) -> Scores:
    changed = scores.copy()
    changed[indices] = _NEVER
    return changed
