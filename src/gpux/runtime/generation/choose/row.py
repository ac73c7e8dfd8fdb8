"""One row of a generation: its tokens, the choice of the next one, and whether that token ends the row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gpux.errors import ContextLengthError, InputError
from gpux.runtime.generation.choose.processors import Processor, processors
from gpux.runtime.generation.choose.sampling import Chooser, likeliest
from gpux.runtime.generation.options import GenerationOptions
from gpux.runtime.generation.results import FinishReason, TokenScore
from gpux.runtime.numeric import logsumexp

Scores = NDArray[np.float32]


class Constraint(Protocol):
    """The format of one row: the interface of libraries that constrain decoding by a grammar. For one generation."""

    @property
    def finished(self) -> bool:
        """Whether the format is complete, so that the row ends even without an end token."""

    def mask(self, scores: Scores) -> Scores:
        """The scores, ``[vocabulary]``, with -inf for tokens that are not allowed next; may change them in place.

        End tokens are allowed where the answer may end.
        """

    def accept(self, token: int) -> None:
        """Advance by a token; not called for end tokens, nor for a token that completed a stop text."""


#: (number of the row, token) -> whether the row ends with a stop text
Stops = Callable[[int, int], bool]
_ROOM = 256  # ids that are allocated at once


@dataclass(frozen=True, slots=True)
class Emitted:
    """One token of a row, or the end of a row without a token."""

    row: int  #: number of the sequence: its prompt's number times ``num_return_sequences``, plus its own
    token: int | None  #: None: cancelled, or past the deadline
    score: TokenScore | None
    finish: FinishReason | None  #: None: the row continues


class Row:
    """One sequence while it is generated.

    Args:
        number: of the sequence in the request.
        prompt: token ids, at least one.
        options: of the request.
        limit: tokens that a row may have, prompt included.
        constraint: the format of its answer.
        stream: the random stream that it draws from; by default ``number``.
        read: token ids of the encoder's input; by default the prompt.
        more: processors after those of the options.

    Raises:
        InputError: the prompt is empty.
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
        more: Sequence[Processor] = (),
    ) -> None:
        self.number = number
        self._prompt = len(prompt)
        self.room = room_for(len(prompt), options, limit)  #: tokens that may still be generated
        self._most = self.room
        self._ids = np.empty(len(prompt) + _ROOM, np.int64)
        self._ids[: len(prompt)] = prompt
        self._size = len(prompt)
        self._ends = frozenset(options.eos_token_ids)
        self._logprobs = options.logprobs
        self._processors = [*processors(options, self.room, prompt if read is None else read), *more]
        self._chooser = Chooser(options, number if stream is None else stream)
        self._constraint = constraint
        #: Whether the next token is the most likely one by the model's own scores.
        self.greedy = not (self._processors or constraint or options.do_sample)

    @property
    def ids(self) -> NDArray[np.int64]:
        """All tokens so far, the prompt's first, ``int64 [tokens]``."""
        return self._ids[: self._size]

    @property
    def last(self) -> int:
        """The newest token."""
        return int(self._ids[self._size - 1])

    def choose(self, scores: Scores) -> int:
        """Choose the next token by the model's scores, ``[vocabulary]``, which are not changed.

        Raises:
            NumericError: a score is NaN or infinite.
            UsageError: every token is forbidden.
        """
        if self._processors or self._constraint is not None:
            scores = scores.copy()
            for process in self._processors:
                process(scores, self.ids, self._prompt)
            if self._constraint is not None:
                scores = self._constraint.mask(scores)
        return self._chooser.choose(scores)

    def take(self, token: int, scores: Scores, stops: Stops | None) -> Emitted:
        """Append the token that was chosen by these scores."""
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
    """Number of tokens that may follow a prompt of ``prompt`` tokens.

    Raises:
        InputError: the prompt is empty.
        ContextLengthError: no token may follow.
    """
    if prompt == 0:
        raise InputError("a prompt has no tokens", hint="Give at least one, such as the model's begin token.")
    if options.max_length is not None:
        limit = options.max_length if limit is None else min(limit, options.max_length)
    if limit is None:
        return options.max_new_tokens
    if prompt >= limit:
        raise ContextLengthError(
            f"the prompt has {prompt} tokens, and the context has {limit} with the answer",
            hint="Shorten the prompt, or truncate it; max_new_tokens replaces a max_length of the model's files.",
            tokens=prompt,
            limit=limit - 1,
        )
    return min(options.max_new_tokens, limit - prompt)


def token_score(scores: Scores, token: int, count: int) -> TokenScore:
    """Log probabilities of the token and of the ``count`` most likely tokens."""
    total = logsumexp(scores)
    best = [(int(other), float(scores[other]) - total) for other in likeliest(scores, count)] if count else []
    return TokenScore(token, float(scores[token]) - total, tuple(best))
