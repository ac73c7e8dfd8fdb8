"""What a generation gives back: its text, its tokens, why it ended and how long it took."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from gpux.model.values import Value

#: ``eos``: the model's own end; ``stop``: a stop text; ``length``: ``max_new_tokens`` or the end of the context;
#: ``deadline``: the time that was given; ``cancelled``: the caller's token was set.
FinishReason = Literal["eos", "stop", "length", "deadline", "cancelled"]


@dataclass(frozen=True)
class TokenScore(Value):
    """One generated token and how likely it was, in natural logarithms of the model's own distribution."""

    token: int
    logprob: float
    #: the likeliest tokens at this place, best first: (token, logprob)
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Timings(Value):
    """Seconds of one call; of a batch, all of its rows together."""

    prefill: float = 0.0  #: from the call to the scores of the first token
    decode: float = 0.0  #: from there to the end
    steps: int = 0  #: calls of the graph after the prefill
    reused_tokens: int = 0  #: of the prompts, whose keys and values were kept from an earlier call


@dataclass(frozen=True)
class Generation(Value):
    """One generated sequence."""

    text: str  #: without the prompt and without the stop text
    tokens: tuple[int, ...]  #: generated, the end token included
    finish_reason: FinishReason
    prompt_tokens: int
    stopped_by: str | None = None  #: the stop text that came
    scores: tuple[TokenScore, ...] = ()  #: with ``logprobs``
    score: float | None = None  #: of a beam: its sum of logprobs over its length to the power of the penalty
    timings: Timings = field(default_factory=Timings)
