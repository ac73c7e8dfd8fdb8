"""Decoding token by token: greedy or sampled, for any number of rows, each of which ends on its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from gpux.runtime.generation.choose.row import Emitted, Row, Stops
from gpux.runtime.generation.choose.sampling import check_best
from gpux.runtime.generation.engine.state import Scores, State
from gpux.runtime.generation.loops.request import DecodeRequest, prefill
from gpux.runtime.generation.results import FinishReason


def generate(state: State, request: DecodeRequest, stops: Stops | None = None) -> Iterator[Emitted]:
    """Decode ``num_return_sequences`` sequences of each prompt; each token is yielded before the next is computed.

    A row ends by an end token, else by a stop text, else by its length; finished rows leave the state. Afterwards the
    state holds the prompts and the tokens that were yielded, except for each row's last token.

    Args:
        state: new, and closed by the caller.
        request: with ``num_beams=1``.
        stops: called for each token except end tokens, right before the token is yielded: does a stop text end with it?

    Raises:
        InputError, ContextLengthError: a prompt is empty, or leaves no room for an answer.
        NumericError: the model's scores are not finite.
        UsageError: the options are for beam search, or forbid every token.
    """
    rows = request.rows(state.limit)
    if not rows:
        return
    scores = _start(state, request)
    if isinstance(scores, str):
        yield from _end(rows, scores)
        return
    greedy = all(row.greedy for row in rows)
    while True:
        tokens = _best(scores) if greedy else [row.choose(scores[place]) for place, row in enumerate(rows)]
        unfinished = []
        for place, row in enumerate(rows):
            emitted = row.take(tokens[place], scores[place], stops)
            if emitted.finish is None:
                unfinished.append(place)
            yield emitted
        if not unfinished:
            return
        if len(unfinished) < len(rows):
            rows, tokens = [rows[place] for place in unfinished], [tokens[place] for place in unfinished]
            state.keep(unfinished)
        if reason := request.interrupted():
            yield from _end(rows, reason)
            return
        scores = state.step(np.array(tokens, np.int64))


def _start(state: State, request: DecodeRequest) -> Scores | FinishReason:
    """Read each prompt once and repeat it for its sequences; scores of each sequence's first token."""
    scores = prefill(state, request)
    copies = request.options.num_return_sequences
    if isinstance(scores, str) or copies == 1:
        return scores
    order = [prompt for prompt in range(len(request.prompts)) for _ in range(copies)]
    repeated: Scores = scores[order]
    state.keep(order)
    return repeated


def _best(scores: Scores) -> list[int]:
    """The most likely token of each row, by the model's own scores."""
    tokens: list[int] = scores.argmax(axis=1).tolist()  # argmax returns the place of a NaN before any number's
    for place, token in enumerate(tokens):
        check_best(scores[place, token])
    return tokens


def _end(rows: Sequence[Row], reason: FinishReason) -> Iterator[Emitted]:
    for row in rows:
        yield Emitted(row.number, None, None, reason)
