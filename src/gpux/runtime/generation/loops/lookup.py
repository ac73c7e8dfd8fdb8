"""Speculation by prompt lookup (Saxena, 2023): what followed the last few tokens before may follow them again.

Several guessed tokens are read by the model at once, and each is kept as long as it is the one that would have been
chosen: the tokens are those of :mod:`~gpux.runtime.generation.loops.stepwise`, sampled ones too, for they are drawn
from the model's scores in the same order. Scores of one call over several tokens may differ in the last bits from those
of single steps.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from gpux.errors import UsageError
from gpux.runtime.generation.choose.row import Constraint, Emitted, Row, Stops, interrupted, started
from gpux.runtime.generation.engine.state import State
from gpux.runtime.generation.loops.stepwise import open_rows
from gpux.runtime.generation.options import GenerationOptions
from gpux.system.cancel import CancelToken

Scores = NDArray[np.float32]
_LONGEST = 3  # tokens that are looked for; fewer where so many never came


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
    """Write the answer to the only prompt, as :func:`gpux.runtime.generation.loops.stepwise.generate` does.

    Raises:
        UsageError: not one prompt; ``prompt_lookup_tokens`` is 0.
    """
    if len(prompts) != 1 or options.prompt_lookup_tokens == 0:
        raise UsageError(
            f"prompt_lookup_tokens is {options.prompt_lookup_tokens} for {len(prompts)} prompts, and goes with one",
            hint="Set prompt_lookup_tokens=0, or give one prompt.",
        )
    row = open_rows(prompts, options, state.limit, constraints, numbers, read)[0]
    if reason := interrupted(cancel, deadline):
        yield Emitted(row.number, None, None, reason)
        return
    scores, proposal = started(state, prompts), np.empty(0, np.int64)
    if scores is None:
        yield Emitted(row.number, None, None, interrupted(cancel, deadline) or "cancelled")
        return
    while True:
        with closing(_accepted(row, scores, proposal, state, stops)) as accepted:
            for emitted in accepted:
                yield emitted
                if emitted.finish is not None:
                    return
                if reason := interrupted(cancel, deadline):
                    yield Emitted(row.number, None, None, reason)
                    return
        proposal = propose(row.ids, min(options.prompt_lookup_tokens, row.room - 1))
        newest = np.array([row.last], np.int64)
        scores = state.extend([row.last, *proposal.tolist()]) if proposal.size else state.step(newest)


def _accepted(
    row: Row, scores: Scores, proposal: NDArray[np.int64], state: State, stops: Stops | None
) -> Generator[Emitted, None, None]:
    """Each token that is chosen by these scores, up to the first that is not the proposed one.

    However this is left, the state forgets what was proposed and not given out.
    """
    held = int(state.lengths[0]) - proposal.size  # that were certain
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
            state.truncate(held + kept)


def propose(ids: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """What followed the last tokens where they came before, up to ``count`` tokens; empty if they never did.

    Three tokens are looked for, then two, then one. Of several places, the latest that so many tokens follow, or the
    first of all, which the most tokens follow.
    """
    if count <= 0 or ids.size < 2:
        return ids[:0]
    ends = np.flatnonzero(ids[:-1] == ids[-1])  # where the last token came before
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
