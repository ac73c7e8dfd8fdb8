"""Beam search: several hypotheses of each prompt are followed at once, and the best by score per length are given back.

The outcome is that of transformers' beam search (``_beam_search`` in its ``generation/utils.py``): scores are sums of
logarithms of probabilities, in float32, changed by the processors and divided by the length to the power of
``length_penalty``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpux.errors import UsageError
from gpux.runtime.generation.choosing import interrupted, room_for, started
from gpux.runtime.generation.hypotheses import Beam, Hypotheses
from gpux.runtime.generation.options import GenerationOptions
from gpux.runtime.generation.processors import Processor, processors
from gpux.runtime.generation.ranking import likeliest
from gpux.runtime.generation.results import FinishReason
from gpux.runtime.generation.sampling import check_best
from gpux.runtime.generation.state import State
from gpux.runtime.numeric import log_softmax
from gpux.system.cancel import CancelToken

Scores = NDArray[np.float32]
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
