"""The hypotheses of one prompt in a beam search: those that go on, those that ended, and which can still be beaten."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpux.runtime.generation.options import GenerationOptions
from gpux.runtime.generation.results import FinishReason

Scores = NDArray[np.float32]
Indices = NDArray[np.int64]
#: Of a hypothesis that must not be taken before any other; transformers' value, so that ties fall alike.
_OUT = np.float32(-1e9)


@dataclass(frozen=True, slots=True)
class Beam:
    """One hypothesis that is given back."""

    tokens: tuple[int, ...]  #: generated, the end token included
    score: float  #: sum of its tokens' logarithms of probabilities, over its length to the power of the penalty
    finish: FinishReason


class Hypotheses:
    """``num_beams`` open ones, and up to as many that ended.

    Args:
        options: of the search.
        room: tokens that each may have.
    """

    def __init__(self, options: GenerationOptions, room: int) -> None:
        self._beams = options.num_beams
        self._ends = frozenset(options.eos_token_ids)
        self._penalty = options.length_penalty
        self._early = options.early_stopping
        self._room = room
        #: Candidates of each step: enough that ``num_beams`` go on even if every beam could end in every way.
        self.width = max(2, 1 + len(options.eos_token_ids)) * self._beams
        self.tokens: list[tuple[int, ...]] = [()] * self._beams  #: generated, of the open ones
        self.parents: list[int] = list(range(self._beams))  #: which open one of the step before each goes on from
        #: Sums of logarithms, [beams]. All beams are equal at first, so that only one may be gone on from.
        self.scores: Scores = np.full(self._beams, _OUT, np.float32)
        self.scores[0] = 0.0
        self._finished: list[Beam] = []
        self.certain = False  #: no open one can change the outcome

    def advance(
        self, sums: Scores, beams: Indices, tokens: Indices, ended: Callable[[Sequence[int]], bool] | None
    ) -> None:
        """Take the best ``width`` candidates of a step, best first: their sums, the beams they go on from, tokens."""
        made = [(*self.tokens[beam], int(token)) for beam, token in zip(beams, tokens, strict=True)]
        reasons = [self._reason(candidate, ended) for candidate in made]
        length = len(made[0])
        self._finish(zip(made[: self._beams], sums, reasons, strict=False), length)
        open_sums = np.where([reason is not None for reason in reasons], sums + _OUT, sums)
        going = np.argsort(-open_sums, kind="stable")[: self._beams]
        self.tokens = [made[place] for place in going]
        self.parents = [int(beams[place]) for place in going]
        self.scores = open_sums[going]
        self.certain = self._is_certain(length, all(reason is not None for reason in reasons))

    def best(self, count: int, reason: FinishReason | None = None) -> list[Beam]:
        """So many of the best that ended; where the search was ended for a ``reason``, of open ones too.

        Where no more can come, the others have no tokens and a score of -inf.
        """
        found = self._finished
        if reason is not None and not self.certain:
            weighed = [Beam(tokens, self._weighed(score, len(tokens)), reason) for tokens, score in self._open()]
            found = sorted([*found, *weighed], key=lambda beam: -beam.score)
        nothing = Beam((), -math.inf, reason or "length")
        return (found + [nothing] * count)[:count]

    def _open(self) -> Iterable[tuple[tuple[int, ...], np.float32]]:
        return [(tokens, score) for tokens, score in zip(self.tokens, self.scores, strict=True) if score > _OUT / 2]

    def _reason(self, tokens: tuple[int, ...], ended: Callable[[Sequence[int]], bool] | None) -> FinishReason | None:
        if tokens[-1] in self._ends:
            return "eos"
        if ended is not None and ended(tokens):
            return "stop"
        return "length" if len(tokens) >= self._room else None

    def _finish(
        self, candidates: Iterable[tuple[tuple[int, ...], np.float32, FinishReason | None]], length: int
    ) -> None:
        """Put those that ended among the best that did."""
        ended = [
            Beam(tokens, self._weighed(score, length), reason)
            for tokens, score, reason in candidates
            if reason is not None and score > _OUT / 2
        ]
        self._finished = sorted([*self._finished, *ended], key=lambda beam: -beam.score)[: self._beams]

    def _weighed(self, score: np.float32, length: int) -> float:
        return float(score / np.float32(max(length, 1) ** self._penalty))

    def _is_certain(self, length: int, none_goes_on: bool) -> bool:
        """Can what goes on no longer be better than what ended, by ``early_stopping``'s rule."""
        if none_goes_on:
            return True
        if len(self._finished) < self._beams:
            return False
        if self._early is True:
            return True
        longest = self._room if self._early == "never" and self._penalty > 0 else length
        return self._weighed(self.scores[0], longest) <= self._finished[-1].score
