"""The tiny graphs as the engine drives them: prompts, and what is written to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gpux.model.variant import CallSpec
from gpux.runtime.generation.engine.decoder import Decoder, DecoderState
from gpux.runtime.generation.loops import stepwise
from gpux.runtime.generation.loops.request import DecodeRequest
from gpux.runtime.generation.options import GenerationOptions
from tests.runtime.generation.tiny_graphs import greedy

CALL_SPECS: dict[str, CallSpec] = {
    "growing": CallSpec(padding_side="left", chunks_after_cache=True, position_inputs=True),
    "shared": CallSpec(padding_side="right", chunks_after_cache=True, position_inputs=True, chunk_rows=1),
}
PROMPTS = [[3, 14, 15, 9, 26], [5], [35, 8, 9, 7, 9, 3, 2], [38, 4, 6]]
ROOM = 12
Opened = Callable[..., Decoder]  #: makes the tiny decoder


def written(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    *,
    state: DecoderState | None = None,
    generate: Any = stepwise.generate,
    **options: Any,
) -> list[list[int]]:
    """The tokens of each sequence."""
    chosen = GenerationOptions(**{"max_new_tokens": ROOM, **options})
    found: list[list[int]] = [[] for _ in range(len(prompts) * chosen.num_return_sequences)]
    own = state or model.open(chosen.max_new_tokens)
    for emitted in generate(own, DecodeRequest(prompts, chosen)):
        found[emitted.row].append(emitted.token)
    if state is None:
        own.close()
    return found


def expected(prompts: Sequence[Sequence[int]], count: int = ROOM) -> list[list[int]]:
    return [greedy(prompt, count) for prompt in prompts]
