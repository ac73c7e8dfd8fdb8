"""What every kind of decoder offers to the loops above it: rows of tokens, their cache, and the next token's scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]  #: one row: [vocabulary]; or of several rows: [rows, vocabulary]
Ids = NDArray[np.int64]


class State(Protocol):
    """The rows of one generation. Not safe to use from two threads at once; made for one generation each."""

    limit: int | None  #: tokens that a row may have, prompt included; None: no limit known

    @property
    def rows(self) -> int:
        """Rows that are still written."""

    @property
    def lengths(self) -> Ids:
        """Tokens of each row that the cache holds, ``[rows]``; of an encoder-decoder, of the decoder's part."""

    def start(self, prompts: Sequence[Sequence[int]]) -> Scores:
        """Read the prompts, one a row, and answer the scores of each row's next token, ``[rows, vocabulary]``.

        Raises:
            CancelledError: the caller wanted no more while a long prompt was read.
            ContextLengthError: a prompt is longer than the model can read.
            CacheMemoryError: the cache would not fit.
        """

    def step(self, tokens: Ids) -> Scores:
        """Append one token to each row, ``[rows]``; the scores of the next one, ``[rows, vocabulary]``.

        The result is a view of a buffer that the next call overwrites.
        """

    def extend(self, tokens: Sequence[int]) -> Scores:
        """Append several tokens to the only row; the scores after each of them, ``[tokens, vocabulary]``."""

    def truncate(self, length: int) -> None:
        """Forget what the only row has beyond ``length`` tokens."""

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows, in this order: finished ones leave, and a beam may be followed twice."""

    def close(self) -> None:
        """Let go of the cache's memory; may be called twice."""
