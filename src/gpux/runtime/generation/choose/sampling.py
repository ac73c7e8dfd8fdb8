"""The choice of the next token: the most likely one, or one drawn from a truncated distribution.

The arithmetic of the cuts is that of transformers' ``generation/logits_process.py``, with at least one token left. Each
cut returns the ascending indices of the remaining scores of a row, so that the next cut reads only those.

``np.partition`` over 150,000 scores takes a millisecond on processors without vector instructions for it, and a
cumulative sum takes one on any: as long as a step of a small model. So the maxima of groups give a bound that enough
scores reach, and only the scores that reach it are sorted; sums are computed by blocks. Results are the same.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gpux.errors import NumericError, UsageError
from gpux.runtime.generation.options import GenerationOptions
from gpux.runtime.numeric import log_softmax, softmax

Scores = NDArray[np.float32]
Indices = NDArray[np.int64]
#: Up to this many values the direct computation is as fast.
FEW = 4096
_BLOCK = 512


def reaching(values: Scores, count: int) -> Indices:
    """Ascending indices of at least ``count`` values, which all others are below.

    All indices if there are no more than ``count``. Values of -inf are omitted if enough others remain.
    """
    if count >= values.size:
        return np.arange(values.size)
    bound = _bound(values, count)
    if bound == -np.inf:
        finite = np.flatnonzero(values > bound)
        return finite if finite.size >= count else np.arange(values.size)
    return np.flatnonzero(values >= bound)


def _bound(values: Scores, count: int) -> np.float32:
    """A value that at least ``count`` values reach, close to the one of rank ``count``."""
    groups = 4 * max(count, 64)
    if values.size < max(FEW, 4 * groups):
        return _largest(values, count)
    whole = values.size - values.size % groups
    maxima: Scores = values[:whole].reshape(-1, groups).max(axis=0)  # each maximum is a different value
    return _largest(maxima, count)


def _largest(values: Scores, count: int) -> np.float32:
    """The value of rank ``count``; 1 is the largest."""
    found: np.float32 = np.partition(values, values.size - count)[values.size - count]
    return found


def likeliest(values: Scores, count: int) -> Indices:
    """Indices of the ``count`` largest values, largest first; equal values in order of their index."""
    found = reaching(values, count)
    order = np.argsort(-values[found], kind="stable")
    return found[order[:count]]


def first_beyond(weights: Scores, target: float) -> int:
    """The first index up to which the non-negative weights sum to more than ``target``.

    The last index with a weight, if rounding keeps the sum below.
    """
    begin = 0
    if weights.size > FEW:
        begins = np.arange(0, weights.size, _BLOCK)
        sums = np.cumsum(np.add.reduceat(weights, begins), dtype=np.float64)
        block = min(int(np.searchsorted(sums, target, side="right")), int(np.searchsorted(sums, sums[-1])))
        begin = block * _BLOCK
        target -= float(sums[block - 1]) if block else 0.0
        weights = weights[begin : begin + _BLOCK]
    sums = np.cumsum(weights, dtype=np.float64)
    place = min(int(np.searchsorted(sums, target, side="right")), int(np.searchsorted(sums, sums[-1])))
    return begin + place


Cut = Callable[[Scores], Indices]
#: Numbers of most likely tokens that are tried before all scores are sorted.
_TRIES = (512, 8192)
_MARGIN = 1e-4  # of probability, for the rounding of large float32 sums


def cuts(options: GenerationOptions) -> list[Cut]:
    """The cuts that the options need, in transformers' order; the temperature is applied before them."""
    found: list[Cut] = []
    if options.top_k:
        found.append(lambda scores: keep_top_k(scores, options.top_k))
    if options.top_p < 1.0:
        found.append(lambda scores: keep_top_p(scores, options.top_p))
    if options.min_p > 0.0:
        found.append(lambda scores: keep_min_p(scores, options.min_p))
    if options.typical_p < 1.0:
        found.append(lambda scores: keep_typical(scores, options.typical_p))
    return found


def keep_top_k(scores: Scores, count: int) -> Indices:
    """The ``count`` best scores, and those equal to the last of them."""
    found = reaching(scores, count)
    if found.size <= count:
        return found
    near = scores[found]
    worst = np.partition(near, near.size - count)[near.size - count]
    kept: Indices = found[near >= worst]
    return kept


def keep_top_p(scores: Scores, mass: float) -> Indices:
    """The fewest tokens that have at least the probability ``mass`` together (Holtzman et al., 2020)."""
    if scores.size <= FEW:
        return _heaviest(scores, np.arange(scores.size), softmax(scores), 0.0, mass)
    probabilities = softmax(scores)
    for count in _TRIES:
        found = reaching(scores, count)
        near = probabilities[found]
        held = float(near.sum(dtype=np.float64))
        if held >= mass + _MARGIN:  # all other tokens are less likely, and are cut
            return _heaviest(scores[found], found, near, 1.0 - held, mass)
    return _heaviest_of_many(scores, mass)


def _heaviest(scores: Scores, indices: Indices, probabilities: Scores, before: float, mass: float) -> Indices:
    """Remove the least likely tokens as long as they have no more than 1 - ``mass`` together."""
    order = np.argsort(scores, kind="stable")  # the least likely first
    sums = before + np.cumsum(probabilities[order], dtype=np.float64)
    first = int(np.searchsorted(sums.astype(np.float32), np.float32(1 - mass), side="right"))
    return indices[np.sort(order[min(first, order.size - 1) :])]


def _heaviest_of_many(scores: Scores, mass: float) -> Indices:
    """As :func:`_heaviest`, by sorted values, which is much faster than by indices; of equals, the first are cut."""
    values = np.sort(scores)
    first = first_beyond(softmax(values), 1 - mass)
    limit = values[first]
    equal = np.flatnonzero(scores == limit)
    kept = scores > limit
    kept[equal[equal.size - (int(np.searchsorted(values, limit, side="right")) - first) :]] = True
    return np.flatnonzero(kept)


def keep_min_p(scores: Scores, share: float) -> Indices:
    """Tokens that are at least ``share`` times as likely as the best one."""
    best = scores.max()
    found = np.flatnonzero(scores >= best + np.float32(np.log(share) - 1e-3))  # slightly too many; few exponentials
    kept: Indices = found[np.exp(scores[found] - best) >= np.float32(share)]
    return kept


def keep_typical(scores: Scores, mass: float) -> Indices:
    """Tokens whose information is closest to the entropy, up to the probability ``mass`` (Meister et al., 2023)."""
    logs = log_softmax(scores)
    np.maximum(logs, np.float32(-1e30), out=logs)  # 0 times this is 0; 0 times -inf is NaN
    probabilities = np.exp(logs)
    logs -= np.dot(logs, probabilities)
    nearness: Scores = np.negative(np.abs(logs, out=logs), out=logs)
    for count in _TRIES if scores.size > FEW else ():
        found = reaching(nearness, count)
        if float(probabilities[found].sum(dtype=np.float64)) >= mass + _MARGIN:
            return found[_nearest(nearness[found], probabilities[found], mass)]
    return np.flatnonzero(_nearest(nearness, probabilities, mass))


def _nearest(nearness: Scores, probabilities: Scores, mass: float) -> NDArray[np.bool_]:
    """Mask of the tokens that are as near as the last of the nearest that have ``mass`` together."""
    order = np.argsort(-nearness)  # the order of equals does not matter: all of them are kept
    sums = np.cumsum(probabilities[order], dtype=np.float64).astype(np.float32)
    last = min(int(np.searchsorted(sums, np.float32(mass), side="left")), order.size - 1)
    near: NDArray[np.bool_] = nearness >= nearness[order[last]]
    return near


class Chooser:
    """Chooses the tokens of one row; with a seed, the same tokens every time.

    Args:
        options: of the generation.
        stream: random stream of the row, so that rows with one seed differ.
    """

    def __init__(self, options: GenerationOptions, stream: int = 0) -> None:
        self._draws = options.do_sample
        self._temperature = np.float32(options.temperature)
        self._cuts = cuts(options) if options.do_sample else []
        self._random = np.random.default_rng(None if options.seed is None else [options.seed, stream])

    def choose(self, scores: Scores) -> int:
        """Choose a token by its scores after all processors, ``[vocabulary]``, which are not changed.

        Raises:
            NumericError: a score is NaN or infinite.
            UsageError: every token is forbidden.
        """
        best = int(scores.argmax())  # the index of a NaN, if there is one
        check_best(scores[best])
        if not self._draws:
            return best
        scores, tokens = self._distribution(scores, scores[best])
        weights = np.exp(scores)
        place = first_beyond(weights, self._random.random() * float(weights.sum()))
        return place if tokens is None else int(tokens[place])

    def probabilities(self, scores: Scores) -> Scores:
        """The distribution that :meth:`choose` draws from, ``[vocabulary]``."""
        left, tokens = self._distribution(scores, scores.max())
        found = np.zeros_like(scores)
        found[slice(None) if tokens is None else tokens] = softmax(left)
        return found

    def _distribution(self, scores: Scores, best: np.float32) -> tuple[Scores, Indices | None]:
        """The remaining scores, with the best at 0, and their tokens; None: all tokens."""
        scores = scores - best  # before the temperature, so that a low one does not overflow
        if self._temperature != 1.0:
            with np.errstate(over="ignore"):  # to -inf, as intended
                scores /= self._temperature
        tokens: Indices | None = None
        for cut in self._cuts:
            kept = cut(scores)
            scores, tokens = scores[kept], kept if tokens is None else tokens[kept]
        if tokens is not None:  # typical sampling may have cut the best
            scores -= scores.max()
        return scores, tokens


def check_best(score: np.float32) -> None:
    """Check the best score of a row.

    Raises:
        NumericError: it is infinite or NaN, as it is if any score of the row is NaN.
        UsageError: it is -inf: every token is forbidden.
    """
    if -np.inf < score < np.inf:
        return
    if score == -np.inf:
        raise UsageError(
            "every next token is forbidden",
            hint="Relax no_repeat_ngram_size, bad_words, suppress_tokens, min_new_tokens or the answer's format.",
        )
    raise NumericError(
        f"the model's score of the next token is {score}",
        hint="Its weights are damaged, or it overflows: try --precision fp32, and `gpux verify --proof`.",
    )
