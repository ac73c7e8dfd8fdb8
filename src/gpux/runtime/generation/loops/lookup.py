"""Speculative decoding by prompt lookup (Saxena, 2023): what followed the last few tokens before may follow them again.

The model reads several guessed tokens in one call, and each is accepted as long as the model would have chosen it. So
the tokens are those of :mod:`~gpux.runtime.generation.loops.stepwise`; sampled ones too, since they are drawn from the
model's scores in the same order. Scores of a call over several tokens may differ from those of single steps in the last
bits.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing

import numpy as np

from gpux.errors import UsageError
from gpux.runtime.generation.choose.row import Emitted, Row, Stops
from gpux.runtime.generation.engine.state import Ids, Scores, State
from gpux.runtime.generation.loops.request import DecodeRequest, prefill

_LONGEST = 3  # tokens that are looked up; fewer where the last three did not come before


def generate(state: State, request: DecodeRequest, stops: Stops | None = None) -> Iterator[Emitted]:
    """Decode one sequence of the only prompt, as :func:`gpux.runtime.generation.loops.stepwise.generate` does.

    Args:
        state: new, and closed by the caller.
        request: one prompt; ``prompt_lookup_tokens`` is the number of tokens that are guessed at once.
        stops: called for each token except end tokens: does a stop text end with it?

    Raises:
        UsageError: more or less than one prompt, or ``prompt_lookup_tokens=0``.
    """
    options = request.options
    if len(request.prompts) != 1 or options.prompt_lookup_tokens == 0:
        raise UsageError(
            f"prompt_lookup_tokens is {options.prompt_lookup_tokens} for {len(request.prompts)} prompts; it is for one",
            hint="Set prompt_lookup_tokens=0, or give one prompt.",
        )
    row = request.rows(state.limit)[0]
    scores = prefill(state, request)
    if isinstance(scores, str):
        yield Emitted(row.number, None, None, scores)
        return
    proposal = np.empty(0, np.int64)
    while True:
        with closing(_accepted(row, scores, proposal, state, stops)) as accepted:
            for emitted in accepted:
                yield emitted
                if emitted.finish is not None:
                    return
                if reason := request.interrupted():
                    yield Emitted(row.number, None, None, reason)
                    return
        proposal = propose(row.ids, min(options.prompt_lookup_tokens, row.room - 1))
        newest = np.array([row.last], np.int64)
        scores = state.extend([row.last, *proposal.tolist()]) if proposal.size else state.step(newest)


def _accepted(
    row: Row, scores: Scores, proposal: Ids, state: State, stops: Stops | None
) -> Generator[Emitted, None, None]:
    """The tokens that these scores choose, up to the first that differs from the proposed one.

    However the caller leaves this generator, proposed tokens that were not yielded are removed from the state.
    """
    certain = int(state.lengths[0]) - proposal.size
    kept = 0
    try:
        for place in range(len(scores)):
            token = row.choose(scores[place])
            right = place < proposal.size and token == proposal[place]
            yield row.take(token, scores[place], stops)
            if not right:
                return
            kept += 1
    finally:
        if kept < proposal.size:
            state.truncate(certain + kept)


def propose(ids: Ids, count: int) -> Ids:
    """The tokens that followed the last tokens at an earlier place, at most ``count``; empty if there is no such place.

    The last three tokens are looked up, then two, then one. Of several places, the latest that ``count`` tokens follow
    is used, or else the first place, which the most tokens follow.
    """
    if count <= 0 or ids.size < 2:
        return ids[:0]
    ends = np.flatnonzero(ids[:-1] == ids[-1])  # earlier places of the last token
    for size in range(2, _LONGEST + 1):
        longer = ends[ends >= size - 1]
        longer = longer[ids[longer - size + 1] == ids[-size]] if ids.size >= size else longer[:0]
        if longer.size == 0:
            break
        ends = longer
    if ends.size == 0:
        return ids[:0]
    full = ends[ends + count < ids.size]
    begin = int(full[-1] if full.size else ends[0]) + 1
    return ids[begin : begin + count].copy()
