"""The interface of a decoder's state, which the decoding loops use: rows of tokens, their cache, and scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]  #: one row: [vocabulary]; or of several rows: [rows, vocabulary]
Ids = NDArray[np.int64]


class State(Protocol):
    """The rows of one generation. Not safe to use from two threads at once."""

    limit: int | None  #: tokens that a row may have, prompt included; None: unknown

    @property
    def rows(self) -> int:
        """Number of unfinished rows."""

    @property
    def lengths(self) -> Ids:
        """Tokens of each row in the decoder's cache, ``[rows]``."""

    def start(self, prompts: Sequence[Sequence[int]]) -> Scores:
        """Read the prompts, one for each row; returns the scores of each row's next token, ``[rows, vocabulary]``.

        Raises:
            CancelledError: the caller cancelled while a long prompt was read.
            ContextLengthError: a prompt is longer than the context.
            CacheMemoryError: the cache would not fit into memory.
        """

    def step(self, tokens: Ids) -> Scores:
        """Append one token to each row, ``[rows]``; returns the scores of the next token, ``[rows, vocabulary]``.

        The result is a view of a buffer that the next call overwrites.
        """

    def extend(self, tokens: Sequence[int]) -> Scores:
        """Append several tokens to the only row; returns the scores after each of them, ``[tokens, vocabulary]``."""

    def truncate(self, length: int) -> None:
        """Remove the tokens of the only row beyond ``length``."""

    def keep(self, rows: Sequence[int]) -> None:
        """Continue with these rows, in this order: finished rows are omitted, and a beam may occur twice."""

    def close(self) -> None:
        """Release the cache; may be called twice."""
