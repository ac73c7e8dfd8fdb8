"""Beam search: several hypotheses of each prompt are extended at once; the best by score and length are returned.

Results are those of transformers' beam search (``_beam_search`` in its ``generation/utils.py``): a score is the sum of
log probabilities in float32, after the processors, divided by the length to the power of ``length_penalty``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gpux.errors import UsageError
from gpux.runtime.generation.choose.processors import Processor, processors
from gpux.runtime.generation.choose.row import room_for
from gpux.runtime.generation.choose.sampling import check_best, likeliest
from gpux.runtime.generation.engine.state import Ids, Scores, State
from gpux.runtime.generation.loops.request import DecodeRequest, prefill
from gpux.runtime.generation.options import GenerationOptions
from gpux.runtime.generation.results import FinishReason
from gpux.runtime.numeric import log_softmax

#: generated tokens of one hypothesis -> whether a stop text ends them
Ended = Callable[[Sequence[int]], bool]
#: Score of a hypothesis that must rank below all others; transformers' value, so that ties are broken alike.
_EXCLUDED = np.float32(-1e9)


@dataclass(frozen=True, slots=True)
class Beam:
    """One returned hypothesis."""

    tokens: tuple[int, ...]  #: generated, the end token included
    score: float  #: sum of log probabilities, divided by the length to the power of ``length_penalty``
    finish: FinishReason


def search(state: State, request: DecodeRequest, ended: Ended | None = None) -> list[Beam]:
    """The best ``num_return_sequences`` hypotheses of the first prompt, best first, then those of the next prompt.

    A prompt whose result cannot change any more leaves the state, whatever the other prompts need.

    Args:
        state: new, and closed by the caller; it gets ``num_beams`` rows for each prompt.
        request: without sampling; if it is cancelled or past its deadline, the best hypotheses so far are returned.
        ended: called for each candidate hypothesis: is there a stop text at its end?

    Raises:
        InputError, ContextLengthError: a prompt is empty, or leaves no room for an answer.
        NumericError: the model's scores are not finite.
        UsageError: the options ask for sampling or ``logprobs``, or forbid every token.
    """
    options = request.options
    if options.do_sample or options.logprobs is not None:
        raise UsageError("num_beams does not support do_sample or logprobs", hint="Remove one of the options.")
    items = [
        _item(prompt, source, request, state.limit)
        for prompt, source in zip(request.prompts, request.encoder_ids, strict=True)
    ]
    reason = _run(state, items, request, ended) if items else None
    return [beam for item in items for beam in item.hypotheses.best(options.num_return_sequences, reason)]


@dataclass(frozen=True, slots=True)
class _Item:
    """One prompt with its hypotheses."""

    prompt: tuple[int, ...]
    processors: list[Processor]
    hypotheses: Hypotheses

    def processed(self, log_probs: Scores, renormalize: bool) -> Scores:
        """Log probabilities after the processors, ``[beams, vocabulary]``; ``log_probs`` is written to."""
        for place, tokens in enumerate(self.hypotheses.tokens if self.processors else ()):
            ids = np.array([*self.prompt, *tokens], np.int64)
            for process in self.processors:
                process(log_probs[place], ids, len(self.prompt))
        return log_softmax(log_probs) if renormalize else log_probs


class Hypotheses:
    """The hypotheses of one prompt: ``num_beams`` unfinished ones, and at most as many finished ones.

    Args:
        options: of the search.
        room: tokens that each hypothesis may have.
    """

    def __init__(self, options: GenerationOptions, room: int) -> None:
        self._beams = options.num_beams
        self._ends = frozenset(options.eos_token_ids)
        self._penalty = options.length_penalty
        self._early = options.early_stopping
        self._room = room
        #: Candidates of each step: enough that ``num_beams`` continue even if each could end with every end token.
        self.width = max(2, 1 + len(options.eos_token_ids)) * self._beams
        self.tokens: list[tuple[int, ...]] = [()] * self._beams  #: generated, of the unfinished ones
        self.parents: list[int] = list(range(self._beams))  #: the beam of the step before that each one extends
        #: Sums of log probabilities, [beams]. All beams are equal at first, so only one of them may be extended.
        self.scores: Scores = np.full(self._beams, _EXCLUDED, np.float32)
        self.scores[0] = 0.0
        self._finished: list[Beam] = []
        self.certain = False  #: no unfinished hypothesis can change the result

    def advance(self, sums: Scores, beams: Ids, tokens: Ids, ended: Ended | None) -> None:
        """Take the best ``width`` candidates of a step, best first: their sums, the beams they extend, their tokens."""
        candidates = [(*self.tokens[beam], int(token)) for beam, token in zip(beams, tokens, strict=True)]
        reasons = [self._reason(candidate, ended) for candidate in candidates]
        length = len(candidates[0])
        self._finish(zip(candidates[: self._beams], sums, reasons, strict=False), length)
        open_sums = np.where([reason is not None for reason in reasons], sums + _EXCLUDED, sums)
        kept = np.argsort(-open_sums, kind="stable")[: self._beams]
        self.tokens = [candidates[place] for place in kept]
        self.parents = [int(beams[place]) for place in kept]
        self.scores = open_sums[kept]
        self.certain = self._is_certain(length, all(reason is not None for reason in reasons))

    def best(self, count: int, reason: FinishReason | None = None) -> list[Beam]:
        """The best ``count`` finished hypotheses; if the search ended early for a ``reason``, unfinished ones too.

        Where there are fewer, the rest have no tokens and a score of -inf.
        """
        found = self._finished
        if reason is not None and not self.certain:
            weighed = [Beam(tokens, self._weighed(score, len(tokens)), reason) for tokens, score in self._unfinished()]
            found = sorted([*found, *weighed], key=lambda beam: -beam.score)
        nothing = Beam((), -math.inf, reason or "length")
        return (found + [nothing] * count)[:count]

    def _unfinished(self) -> Iterable[tuple[tuple[int, ...], np.float32]]:
        pairs = zip(self.tokens, self.scores, strict=True)
        return [(tokens, score) for tokens, score in pairs if score > _EXCLUDED / 2]

    def _reason(self, tokens: tuple[int, ...], ended: Ended | None) -> FinishReason | None:
        if tokens[-1] in self._ends:
            return "eos"
        if ended is not None and ended(tokens):
            return "stop"
        return "length" if len(tokens) >= self._room else None

    def _finish(
        self, candidates: Iterable[tuple[tuple[int, ...], np.float32, FinishReason | None]], length: int
    ) -> None:
        """Add the candidates that ended to the finished hypotheses, of which the best ``num_beams`` are kept."""
        ended = [
            Beam(tokens, self._weighed(score, length), reason)
            for tokens, score, reason in candidates
            if reason is not None and score > _EXCLUDED / 2
        ]
        self._finished = sorted([*self._finished, *ended], key=lambda beam: -beam.score)[: self._beams]

    def _weighed(self, score: np.float32, length: int) -> float:
        return float(score / np.float32(max(length, 1) ** self._penalty))

    def _is_certain(self, length: int, all_ended: bool) -> bool:
        """Whether, by the rule of ``early_stopping``, no unfinished hypothesis can beat the finished ones."""
        if all_ended:
            return True
        if len(self._finished) < self._beams:
            return False
        if self._early is True:
            return True
        longest = self._room if self._early == "never" and self._penalty > 0 else length
        return self._weighed(self.scores[0], longest) <= self._finished[-1].score


def _item(prompt: Sequence[int], source: Sequence[int], request: DecodeRequest, limit: int | None) -> _Item:
    room = room_for(len(prompt), request.options, limit)
    applied = [*processors(request.options, room, source), *request.processors]
    return _Item(tuple(prompt), applied, Hypotheses(request.options, room))


def _run(state: State, items: Sequence[_Item], request: DecodeRequest, ended: Ended | None) -> FinishReason | None:
    """Extend the hypotheses until every result is certain; else the reason why the search ended early."""
    beams, options = request.options.num_beams, request.options
    open_items = list(items)
    scores = prefill(state, request)
    if isinstance(scores, str):
        return scores
    log_probs = np.repeat(_checked(scores), beams, axis=0)
    parents = np.arange(len(items)).repeat(beams).reshape(-1, beams)  # rows that each item's beams extend
    while True:
        _advance(open_items, log_probs, options, ended)
        chosen = [item.hypotheses.parents for item in open_items]
        places = [place for place, item in enumerate(open_items) if not item.hypotheses.certain]
        if not places:
            return None
        rows = [int(parents[place][beam]) for place in places for beam in chosen[place]]
        open_items = [open_items[place] for place in places]
        if reason := request.interrupted():
            return reason
        if rows != list(range(state.rows)):
            state.keep(rows)
        newest = [tokens[-1] for item in open_items for tokens in item.hypotheses.tokens]
        log_probs = _checked(state.step(np.array(newest, np.int64)))
        parents = np.arange(len(rows)).reshape(-1, beams)


def _advance(items: Sequence[_Item], log_probs: Scores, options: GenerationOptions, ended: Ended | None) -> None:
    """Extend every hypothesis by one token; ``log_probs`` is ``[items * beams, vocabulary]``, and is written to."""
    beams, vocabulary = options.num_beams, log_probs.shape[1]
    for place, item in enumerate(items):
        own = item.processed(log_probs[place * beams : (place + 1) * beams], options.renormalize_logits)
        own += item.hypotheses.scores[:, None]
        flat = own.ravel()
        best = likeliest(flat, item.hypotheses.width)
        check_best(flat[best[0]])
        item.hypotheses.advance(flat[best], best // vocabulary, best % vocabulary, ended)


def _checked(scores: Scores) -> Scores:
    """Log probabilities of each row of scores.

    Raises:
        NumericError: the scores are not finite.
    """
    for best in scores.max(axis=1):
        check_best(best)
    return log_softmax(scores)
