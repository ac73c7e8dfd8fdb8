"""Which token is taken: the likeliest, or one that is drawn from a distribution that was cut down before.

The arithmetic of the cuts is that of transformers' ``generation/logits_process.py``, with at least one token left. Each
takes one row of scores, float32, and answers the ascending indices of those that are left, so that the next one only
sees these: the first that leaves few makes the others free.
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
#: Up to this many values the plain way is as fast.
FEW = 4096
_BLOCK = 512


def reaching(values: Scores, count: int) -> Indices:
    """Indices, ascending, of at least ``count`` values: those above a bound, and every other value is below it.

    All of them where there are no more than ``count``. Values of -inf are left out where enough others remain.
    """
    if count >= values.size:
        return np.arange(values.size)
    bound = _bound(values, count)
    if bound == -np.inf:
        finite = np.flatnonzero(values > bound)
        return finite if finite.size >= count else np.arange(values.size)
    return np.flatnonzero(values >= bound)


def _bound(values: Scores, count: int) -> np.float32:
    """A value that at least ``count`` values reach, near to the one that exactly so many do."""
    groups = 4 * max(count, 64)
    if values.size < max(FEW, 4 * groups):
        return _largest(values, count)
    whole = values.size - values.size % groups
    maxima: Scores = values[:whole].reshape(-1, groups).max(axis=0)  # each is another value that was seen
    return _largest(maxima, count)


def _largest(values: Scores, count: int) -> np.float32:
    """The value of rank ``count``; 1 is the largest."""
    found: np.float32 = np.partition(values, values.size - count)[values.size - count]
    return found


def likeliest(values: Scores, count: int) -> Indices:
    """Indices of the ``count`` largest values, best first; of equals, the first comes first."""
    found = reaching(values, count)
    order = np.argsort(-values[found], kind="stable")
    return found[order[:count]]


def first_beyond(weights: Scores, target: float) -> int:
    """The first index up to which the weights, none below 0, sum to more than ``target``; the last one with a weight
    where rounding leaves them short of it.
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
#: How many of the likeliest are tried before all scores are sorted.
_TRIES = (512, 8192)
_MARGIN = 1e-4  # of probability, for what float32 loses in a large sum


def cuts(options: GenerationOptions) -> list[Cut]:
    """The cuts that the options ask for, in transformers' order; the temperature comes before them."""
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
    """The ``count`` best, and what is as good as the last of them."""
    found = reaching(scores, count)
    if found.size <= count:
        return found
    near = scores[found]
    worst = np.partition(near, near.size - count)[near.size - count]
    kept: Indices = found[near >= worst]
    return kept


def keep_top_p(scores: Scores, mass: float) -> Indices:
    """The fewest that together have at least the probability ``mass`` (Holtzman et al., 2020)."""
    if scores.size <= FEW:
        return _heaviest(scores, np.arange(scores.size), softmax(scores), 0.0, mass)
    probabilities = softmax(scores)
    for count in _TRIES:
        found = reaching(scores, count)
        near = probabilities[found]
        held = float(near.sum(dtype=np.float64))
        if held >= mass + _MARGIN:  # those left out come before, and are all cut away
            return _heaviest(scores[found], found, near, 1.0 - held, mass)
    return _heaviest_of_many(scores, mass)


def _heaviest(scores: Scores, indices: Indices, probabilities: Scores, before: float, mass: float) -> Indices:
    """Of these, what is left when the worst go as long as they have no more than 1 - ``mass`` together."""
    order = np.argsort(scores, kind="stable")  # the worst first
    sums = before + np.cumsum(probabilities[order], dtype=np.float64)
    first = int(np.searchsorted(sums.astype(np.float32), np.float32(1 - mass), side="right"))
    return indices[np.sort(order[min(first, order.size - 1) :])]


def _heaviest_of_many(scores: Scores, mass: float) -> Indices:
    """The same by sorted values, which is much faster than by sorted indices; of equals, the first go first."""
    values = np.sort(scores)
    first = first_beyond(softmax(values), 1 - mass)
    limit = values[first]
    equal = np.flatnonzero(scores == limit)
    kept = scores > limit
    kept[equal[equal.size - (int(np.searchsorted(values, limit, side="right")) - first) :]] = True
    return np.flatnonzero(kept)


def keep_min_p(scores: Scores, share: float) -> Indices:
    """Those that are at least ``share`` times as likely as the best one."""
    best = scores.max()
    found = np.flatnonzero(scores >= best + np.float32(np.log(share) - 1e-3))  # a little too many, few to raise
    kept: Indices = found[np.exp(scores[found] - best) >= np.float32(share)]
    return kept


def keep_typical(scores: Scores, mass: float) -> Indices:
    """Those whose surprise is nearest to the distribution's entropy, up to ``mass`` (Meister et al., 2023)."""
    logs = log_softmax(scores)
    np.maximum(logs, np.float32(-1e30), out=logs)  # 0 times this is 0, as it is not with -inf
    probabilities = np.exp(logs)
    logs -= np.dot(logs, probabilities)
    nearness: Scores = np.negative(np.abs(logs, out=logs), out=logs)
    for count in _TRIES if scores.size > FEW else ():
        found = reaching(nearness, count)
        if float(probabilities[found].sum(dtype=np.float64)) >= mass + _MARGIN:
            return found[_nearest(nearness[found], probabilities[found], mass)]
    return np.flatnonzero(_nearest(nearness, probabilities, mass))


def _nearest(nearness: Scores, probabilities: Scores, mass: float) -> NDArray[np.bool_]:
    """Which are as near as the one with which the nearest have ``mass`` together."""
    order = np.argsort(-nearness)  # equals need no order: all of them stay
    sums = np.cumsum(probabilities[order], dtype=np.float64).astype(np.float32)
    last = min(int(np.searchsorted(sums, np.float32(mass), side="left")), order.size - 1)
    near: NDArray[np.bool_] = nearness >= nearness[order[last]]
    return near


class Chooser:
    """Takes the next token of one row; a seeded one draws the same tokens again.

    Args:
        options: how.
        stream: number of the row, so that rows of one seed differ.
    """

    def __init__(self, options: GenerationOptions, stream: int = 0) -> None:
        self._draws = options.do_sample
        self._temperature = np.float32(options.temperature)
        self._cuts = cuts(options) if options.do_sample else []
        self._random = np.random.default_rng(None if options.seed is None else [options.seed, stream])

    def choose(self, scores: Scores) -> int:
        """The token, by its scores after all processors; they are not written to.

        Raises:
            NumericError: the scores hold NaN, or are infinite.
            UsageError: no token may come.
        """
        best = int(scores.argmax())  # finds a NaN before any number
        check_best(scores[best])
        if not self._draws:
            return best
        scores, tokens = self._distribution(scores, scores[best])
        weights = np.exp(scores)
        place = first_beyond(weights, self._random.random() * float(weights.sum()))
        return place if tokens is None else int(tokens[place])

    def probabilities(self, scores: Scores) -> Scores:
        """What :meth:`choose` draws from, ``[vocabulary]``."""
        left, tokens = self._distribution(scores, scores.max())
        found = np.zeros_like(scores)
        found[slice(None) if tokens is None else tokens] = softmax(left)
        return found

    def _distribution(self, scores: Scores, best: np.float32) -> tuple[Scores, Indices | None]:
        """What is left, with the best at 0, and which tokens these are; None: all."""
        scores = scores - best  # before the temperature, so that a low one does not overflow
        if self._temperature != 1.0:
            with np.errstate(over="ignore"):  # to -inf, which is meant
                scores /= self._temperature
        tokens: Indices | None = None
        for cut in self._cuts:
            kept = cut(scores)
            scores, tokens = scores[kept], kept if tokens is None else tokens[kept]
        if tokens is not None:  # typical sampling may have left out the best
            scores -= scores.max()
        return scores, tokens


def check_best(score: np.float32) -> None:
    """See that the best score of a row can be the best.

    Raises:
        NumericError: it is NaN, which stands for any in the row, or infinite.
        UsageError: it is -inf: no token may come.
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
