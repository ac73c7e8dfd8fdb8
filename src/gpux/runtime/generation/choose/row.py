"""One row of a generation: what it has so far, which token comes next, and whether it ends with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gpux.errors import ContextLengthError, InputError
from gpux.runtime.generation.choose.processors import processors
from gpux.runtime.generation.choose.sampling import Chooser, likeliest
from gpux.runtime.generation.options import GenerationOptions
from gpux.runtime.generation.results import FinishReason, TokenScore
from gpux.runtime.numeric import logsumexp

Scores = NDArray[np.float32]


class Constraint(Protocol):
    """The format of one row; made for one generation."""

    @property
    def finished(self) -> bool:
        """Nothing more may come: the row ends, without an end token too."""

    def mask(self, scores: Scores) -> Scores:
        """The scores, ``[vocabulary]``, with -inf for what cannot come; an end token may come where the answer may end.

        They may be written to and given back.
        """

    def accept(self, token: int) -> None:
        """This token came; not called for an end token, nor for one that completed a stop text."""


#: (number of the row, token) -> did a stop text come with it
Stops = Callable[[int, int], bool]
_ROOM = 256  # ids that are set aside at a time


@dataclass(frozen=True, slots=True)
class Emitted:
    """One token of one row, or the end of a row without one."""

    row: int  #: number of the sequence: that of its prompt times ``num_return_sequences``, and which of these
    token: int | None  #: None: ended by the caller, ``finish`` says how
    score: TokenScore | None
    finish: FinishReason | None  #: None: more may follow


class Row:
    """One sequence as it is written.

    Args:
        number: its own among all of the call.
        prompt: the tokens before, at least one.
        options: of the call.
        limit: tokens that a row may have, prompt included.
        constraint: the format of its answer.
        stream: from which its random numbers come; by default ``number``.
        read: what an encoder read; by default the prompt.

    Raises:
        InputError: an empty prompt.
        ContextLengthError: the prompt leaves no room for an answer.
    """

    def __init__(
        self,
        number: int,
        prompt: Sequence[int],
        options: GenerationOptions,
        limit: int | None = None,
        constraint: Constraint | None = None,
        stream: int | None = None,
        read: Sequence[int] | None = None,
    ) -> None:
        self.number = number
        self._prompt = len(prompt)
        self.room = room_for(len(prompt), options, limit)  #: tokens that may still come
        self._most = self.room
        self._ids = np.empty(len(prompt) + _ROOM, np.int64)
        self._ids[: len(prompt)] = prompt
        self._size = len(prompt)
        self._ends = frozenset(options.eos_token_ids)
        self._logprobs = options.logprobs
        self._processors = processors(options, self.room, prompt if read is None else read)
        self._chooser = Chooser(options, number if stream is None else stream)
        self._constraint = constraint
        #: The likeliest token by the model's own scores is the one that comes.
        self.greedy = not (self._processors or constraint or options.do_sample)

    @property
    def ids(self) -> NDArray[np.int64]:
        """All tokens so far, the prompt's first."""
        return self._ids[: self._size]

    @property
    def last(self) -> int:
        """The newest token."""
        return int(self._ids[self._size - 1])

    def choose(self, scores: Scores) -> int:
        """The next token, by the model's scores, ``[vocabulary]``, which are not written to.

        Raises:
            NumericError: the scores hold NaN, or are infinite.
            UsageError: no token may come.
        """
        if self._processors or self._constraint is not None:
            scores = scores.copy()
            for process in self._processors:
                process(scores, self.ids, self._prompt)
            if self._constraint is not None:
                scores = self._constraint.mask(scores)
        return self._chooser.choose(scores)

    def take(self, token: int, scores: Scores, stops: Stops | None) -> Emitted:
        """Append the token that was chosen by these scores of the model."""
        if self._size == self._ids.size:
            self._ids = np.concatenate([self._ids, np.empty(self._size, np.int64)])
        self._ids[self._size] = token
        self._size += 1
        self.room -= 1
        score = None if self._logprobs is None else token_score(scores, token, self._logprobs)
        return Emitted(self.number, token, score, self._finish(token, stops))

    def _finish(self, token: int, stops: Stops | None) -> FinishReason | None:
        if token in self._ends:
            return "eos"
        if stops is not None and stops(self.number, token):
            return "stop"
        if self._constraint is not None:
            self._constraint.accept(token)
            if self._constraint.finished:
                return "eos"
        return "length" if self.room <= 0 else None


def room_for(prompt: int, options: GenerationOptions, limit: int | None) -> int:
    """Tokens that may follow a prompt of so many.

    Raises:
        InputError: an empty prompt.
        ContextLengthError: none may.
    """
    if prompt == 0:
        raise InputError("a prompt has no tokens", hint="Give at least one, such as the model's begin token.")
    if limit is None:
        return options.max_new_tokens
    if prompt >= limit:
        raise ContextLengthError(
            f"the prompt has {prompt} tokens, and the model reads {limit} with its answer",
            hint="Shorten the prompt, or have it truncated.",
            tokens=prompt,
            limit=limit - 1,
        )
    return min(options.max_new_tokens, limit - prompt)


def token_score(scores: Scores, token: int, count: int) -> TokenScore:
    """How likely the model held the token, and the ``count`` likeliest."""
    total = logsumexp(scores)
    best = [(int(other), float(scores[other]) - total) for other in likeliest(scores, count)] if count else []
    return TokenScore(token, float(scores[token]) - total, tuple(best))
