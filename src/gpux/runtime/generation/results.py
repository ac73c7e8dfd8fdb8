"""Results of a generation: text, tokens, the reason for its end, and timings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from gpux.model.values import Value

#: ``eos``: an end token; ``stop``: a stop text; ``length``: ``max_new_tokens`` or the end of the context;
#: ``deadline``: the timeout of the call; ``cancelled``: the caller's ``CancelToken`` was set.
FinishReason = Literal["eos", "stop", "length", "deadline", "cancelled"]


@dataclass(frozen=True)
class TokenScore(Value):
    """One generated token and its log probability (natural logarithm) in the model's own distribution."""

    token: int
    logprob: float
    #: the most likely tokens at this place, best first: (token, logprob)
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Timings(Value):
    """Seconds of one call; of a batch, for all of its rows together."""

    prefill: float = 0.0  #: from the call to the first token
    decode: float = 0.0  #: from the first token to the end
    steps: int = 0  #: calls of the graph after the prefill
    reused_tokens: int = 0  #: tokens of the prompt whose keys and values were kept from an earlier call
    queue: float = 0.0  #: before the prompt was read, among requests at the same time


@dataclass(frozen=True)
class Generation(Value):
    """One generated sequence."""

    text: str  #: without the prompt and without the stop text of ``stop``
    tokens: tuple[int, ...]  #: generated, the end token included
    finish_reason: FinishReason
    prompt_tokens: int
    stopped_by: str | None = None  #: the stop text that ended it
    scores: tuple[TokenScore, ...] = ()  #: with ``logprobs``
    #: of a beam: sum of log probabilities, divided by the length to the power of ``length_penalty``
    score: float | None = None
    timings: Timings = field(default_factory=Timings)
