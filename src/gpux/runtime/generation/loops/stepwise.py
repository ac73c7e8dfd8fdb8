"""Generation token by token: greedy or sampled, one row or many, each ending for itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from gpux.errors import UsageError
from gpux.runtime.generation.choose.row import Constraint, Emitted, Row, Stops, interrupted, started
from gpux.runtime.generation.choose.sampling import check_best
from gpux.runtime.generation.engine.state import State
from gpux.runtime.generation.options import GenerationOptions
from gpux.runtime.generation.results import FinishReason
from gpux.system.cancel import CancelToken

Scores = NDArray[np.float32]


def generate(
    state: State,
    prompts: Sequence[Sequence[int]],
    options: GenerationOptions,
    *,
    stops: Stops | None = None,
    constraints: Sequence[Constraint] | None = None,
    numbers: Sequence[int] | None = None,
    read: Sequence[Sequence[int]] | None = None,
    cancel: CancelToken | None = None,
    deadline: float | None = None,
) -> Iterator[Emitted]:
    """Write ``num_return_sequences`` answers to each prompt; every token is given out before the next is computed.

    A row ends by the model's end token, else by a stop text, else by its length; rows that ended leave the state. When
    this ends, the state holds the prompts and what was given out, without each row's last token.

    Args:
        state: new, and closed by the caller.
        prompts: token ids, one sequence a prompt; of encoder-decoders, the decoder's.
        options: ``num_beams`` has to be 1.
        stops: asked for each token but an end token, right before it is given out: did a stop text come with it?
        constraints: one a sequence.
        numbers: one a sequence, which of the seed's streams it draws from; by default 0, 1, 2 …
        read: what an encoder read for each prompt; by default the prompts.
        cancel: when it is set, every open row ends without a token, as ``cancelled``.
        deadline: of ``time.monotonic()``; from then on every open row ends without a token, as ``deadline``.

    Raises:
        InputError, ContextLengthError: a prompt is empty, or leaves no room for an answer.
        NumericError: the model's scores are not finite.
        UsageError: options that this cannot do, or that forbid every token.
    """
    rows = open_rows(prompts, options, state.limit, constraints, numbers, read)
    if not rows:
        return
    if reason := interrupted(cancel, deadline):
        yield from _ended(rows, reason)
        return
    scores = _begin(state, prompts, options.num_return_sequences)
    if scores is None:
        yield from _ended(rows, interrupted(cancel, deadline) or "cancelled")
        return
    plain = all(row.plain for row in rows)
    while True:
        tokens = _best(scores) if plain else [row.choose(scores[place]) for place, row in enumerate(rows)]
        open_places = []
        for place, row in enumerate(rows):
            emitted = row.take(tokens[place], scores[place], stops)
            if emitted.finish is None:
                open_places.append(place)
            yield emitted
        if not open_places:
            return
        if len(open_places) < len(rows):
            rows, tokens = [rows[place] for place in open_places], [tokens[place] for place in open_places]
            state.keep(open_places)
        if reason := interrupted(cancel, deadline):
            yield from _ended(rows, reason)
            return
        scores = state.step(np.array(tokens, np.int64))


def open_rows(
    prompts: Sequence[Sequence[int]],
    options: GenerationOptions,
    limit: int | None,
    constraints: Sequence[Constraint] | None,
    numbers: Sequence[int] | None = None,
    read: Sequence[Sequence[int]] | None = None,
) -> list[Row]:
    """The rows of all prompts, ``num_return_sequences`` each.

    Raises:
        UsageError: beams, or another number of constraints or numbers.
        InputError, ContextLengthError: a prompt is empty, or leaves no room for an answer.
    """
    count = options.num_return_sequences
    if options.num_beams > 1:
        raise UsageError("num_beams is for beam search, which is not written token by token", hint="Set num_beams=1.")
    total = count * len(prompts)
    for name, given in (("constraints", constraints), ("numbers", numbers)):
        if given is not None and len(given) != total:
            raise UsageError(f"{len(given)} {name} for {total} sequences", hint="Give one a sequence.")
    return [
        Row(
            row,
            prompts[row // count],
            options,
            limit,
            constraints[row] if constraints else None,
            numbers[row] if numbers else row,
            read[row // count] if read else None,
        )
        for row in range(total)
    ]


def _begin(state: State, prompts: Sequence[Sequence[int]], copies: int) -> Scores | None:
    """Read each prompt once and follow it so many times; the scores of each row's first token, None if interrupted."""
    scores = started(state, prompts)
    if scores is None or copies == 1:
        return scores
    order = [prompt for prompt in range(len(prompts)) for _ in range(copies)]
    repeated: Scores = scores[order]
    state.keep(order)
    return repeated


def _best(scores: Scores) -> list[int]:
    """The likeliest token of each row, by the model's own scores."""
    tokens: list[int] = scores.argmax(axis=1).tolist()  # finds a NaN before any number
    for place, token in enumerate(tokens):
        check_best(scores[place, token])
    return tokens


def _ended(rows: Sequence[Row], reason: FinishReason) -> Iterator[Emitted]:
    for row in rows:
        yield Emitted(row.number, None, None, reason)
