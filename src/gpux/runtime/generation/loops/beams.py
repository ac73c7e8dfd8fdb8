"""Beam search: several hypotheses of each prompt are followed at once, and the best by score per length are given back.

The outcome is that of transformers' beam search (``_beam_search`` in its ``generation/utils.py``): scores are sums of
logarithms of probabilities, in float32, changed by the processors and divided by the length to the power of
``length_penalty``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpux.errors import UsageError
from gpux.runtime.generation.choose.processors import Processor, processors
from gpux.runtime.generation.choose.row import interrupted, room_for, started
from gpux.runtime.generation.choose.sampling import check_best, likeliest
from gpux.runtime.generation.engine.state import State
from gpux.runtime.generation.options import GenerationOptions
from gpux.runtime.generation.results import FinishReason
from gpux.runtime.numeric import log_softmax
from gpux.system.cancel import CancelToken

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


#: generated tokens of one hypothesis -> does a stop text end it
Ended = Callable[[Sequence[int]], bool]


@dataclass(frozen=True, slots=True)
class _Item:
    """One prompt with its hypotheses."""

    prompt: tuple[int, ...]
    processors: list[Processor]
    hypotheses: Hypotheses

    def logs(self, scores: Scores, renormalize: bool) -> Scores:
        """Logarithms of probabilities as the processors leave them, ``[beams, vocabulary]``; changes the scores."""
        for place, tokens in enumerate(self.hypotheses.tokens if self.processors else ()):
            ids = np.array([*self.prompt, *tokens], np.int64)
            for process in self.processors:
                process(scores[place], ids, len(self.prompt))
        return log_softmax(scores) if renormalize else scores


def search(
    state: State,
    prompts: Sequence[Sequence[int]],
    options: GenerationOptions,
    *,
    ended: Ended | None = None,
    read: Sequence[Sequence[int]] | None = None,
    cancel: CancelToken | None = None,
    deadline: float | None = None,
) -> list[Beam]:
    """The best ``num_return_sequences`` hypotheses of the first prompt, best first, then those of the next.

    A prompt whose outcome is certain leaves the state, whatever the others need.

    Args:
        state: new, and closed by the caller; it gets ``num_beams`` rows for each prompt.
        prompts: token ids, one sequence a prompt; of encoder-decoders, the decoder's.
        options: without sampling.
        ended: asked for each hypothesis that may be kept: is there a stop text at its end?
        read: what an encoder read for each prompt; by default the prompts.
        cancel: when it is set, the best so far are given back, as ``cancelled``.
        deadline: of ``time.monotonic()``; from then on the best so far are given back, as ``deadline``.

    Raises:
        InputError, ContextLengthError: a prompt is empty, or leaves no room for an answer.
        NumericError: the model's scores are not finite.
        UsageError: sampling was asked for, or every token is forbidden.
    """
    if options.do_sample or options.logprobs is not None:
        raise UsageError("num_beams goes neither with do_sample nor with logprobs", hint="Leave one of them away.")
    items = [_item(prompt, own, options, state.limit) for prompt, own in zip(prompts, read or prompts, strict=True)]
    reason = interrupted(cancel, deadline)
    if not reason and items:
        reason = _run(state, items, options, ended, lambda: interrupted(cancel, deadline))
    return [beam for item in items for beam in item.hypotheses.best(options.num_return_sequences, reason)]


def _item(prompt: Sequence[int], read: Sequence[int], options: GenerationOptions, limit: int | None) -> _Item:
    room = room_for(len(prompt), options, limit)
    return _Item(tuple(prompt), processors(options, room, read), Hypotheses(options, room))


def _run(
    state: State,
    items: Sequence[_Item],
    options: GenerationOptions,
    ended: Ended | None,
    stopped: Callable[[], FinishReason | None],
) -> FinishReason | None:
    """Follow the hypotheses until all are certain; why they are not, where the caller wanted no more."""
    beams = options.num_beams
    open_items = list(items)
    scores = started(state, [item.prompt for item in items])
    if scores is None:
        return stopped() or "cancelled"
    logs = np.repeat(_checked(scores), beams, axis=0)
    parents = np.arange(len(items)).repeat(beams).reshape(-1, beams)  # rows that each item's beams go on from
    while True:
        _advance(open_items, logs, options, ended)
        chosen = [item.hypotheses.parents for item in open_items]
        places = [place for place, item in enumerate(open_items) if not item.hypotheses.certain]
        if not places:
            return None
        rows = [int(parents[place][beam]) for place in places for beam in chosen[place]]
        open_items = [open_items[place] for place in places]
        if reason := stopped():
            return reason
        if rows != list(range(state.rows)):
            state.keep(rows)
        newest = [tokens[-1] for item in open_items for tokens in item.hypotheses.tokens]
        logs = _checked(state.step(np.array(newest, np.int64)))
        parents = np.arange(len(rows)).reshape(-1, beams)


def _advance(items: Sequence[_Item], logs: Scores, options: GenerationOptions, ended: Ended | None) -> None:
    """One more token for every hypothesis; ``logs`` is [items * beams, vocabulary], and changed."""
    beams, vocabulary = options.num_beams, logs.shape[1]
    for place, item in enumerate(items):
        own = item.logs(logs[place * beams : (place + 1) * beams], options.renormalize_logits)
        own += item.hypotheses.scores[:, None]
        flat = own.ravel()
        best = likeliest(flat, item.hypotheses.width)
        check_best(flat[best[0]])
        item.hypotheses.advance(flat[best], best // vocabulary, best % vocabulary, ended)


def _checked(scores: Scores) -> Scores:
    """Logarithms of probabilities, one row each.

    Raises:
        NumericError: scores that are not finite.
    """
    for best in scores.max(axis=1):
        check_best(best)
    return log_softmax(scores)
