"""Generation by a graph without a cache: every token reads the whole row again, with all other inputs of the graph.

BLIP's converter writes such a graph: the picture, and the tokens so far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpux.errors import ContextLengthError, InputError
from gpux.runtime.generation.engine.state import Ids, Scores
from gpux.runtime.session import Session

_IDS, _MASK, _LOGITS = "input_ids", "attention_mask", "logits"


class UncachedState:
    """The rows of one generation; see :class:`~gpux.runtime.generation.engine.state.State`.

    Args:
        session: ``input_ids``, perhaps ``attention_mask``, and others in; ``logits`` [rows, tokens, vocabulary] out.
        inputs: the other inputs for all rows.
        limit: tokens that a row may have.
    """

    def __init__(self, session: Session, inputs: Mapping[str, ArrayLike], limit: int | None) -> None:
        self.limit = limit
        self._session = session
        self._inputs: dict[str, NDArray[Any]] = {name: np.asarray(value) for name, value in inputs.items()}
        self._has_mask = any(spec.name == _MASK for spec in session.inputs)
        self._ids: Ids = np.zeros((0, 0), np.int64)

    @property
    def rows(self) -> int:
        """Number of unfinished rows."""
        return len(self._ids)

    @property
    def lengths(self) -> Ids:
        """Tokens of each row, ``[rows]``; equal for all rows."""
        return np.full(len(self._ids), self._ids.shape[1], np.int64)

    def start(self, prompts: Sequence[Sequence[int]]) -> Scores:
        """Read equally long prompts; returns scores ``[rows, vocabulary]``."""
        sizes = {len(prompt) for prompt in prompts}
        if len(sizes) != 1 or 0 in sizes:
            raise InputError("the prompts must be equally long", hint="Generate one answer at a time.")
        self._ids = np.array(prompts, np.int64)
        return self._scores()

    def step(self, tokens: Ids) -> Scores:
        """Append one token to each row, ``[rows]``; returns the scores of the next token, ``[rows, vocabulary]``."""
        self._ids = np.concatenate([self._ids, np.asarray(tokens, np.int64)[:, None]], axis=1)
        return self._scores()

    def extend(self, tokens: Sequence[int]) -> Scores:
        """Append tokens to the only row; returns the scores after each, ``[tokens, vocabulary]``."""
        self._ids = np.concatenate([self._ids, np.array([tokens], np.int64)], axis=1)
        return self._run()[0, -len(tokens) :]

    def truncate(self, length: int) -> None:
        """Remove the tokens of the only row beyond ``length``."""
        self._ids = self._ids[:, :length]

    def keep(self, rows: Sequence[int]) -> None:
        """Continue with these rows, in this order."""
        chosen = list(rows)
        self._ids = self._ids[chosen]
        self._inputs = {name: value[chosen] for name, value in self._inputs.items()}

    def close(self) -> None:
        """Forget the rows; may be called twice."""
        self._ids = self._ids[:0]

    def _scores(self) -> Scores:
        return self._run()[:, -1]

    def _run(self) -> Scores:
        width = self._ids.shape[1]
        if self.limit is not None and width > self.limit:
            raise ContextLengthError(
                f"{width} tokens exceed the context of {self.limit} tokens",
                hint="Lower max_new_tokens.",
                tokens=width,
                limit=self.limit,
            )
        feed = {**self._inputs, _IDS: self._ids, **({_MASK: np.ones_like(self._ids)} if self._has_mask else {})}
        return self._session.run(feed, [_LOGITS])[_LOGITS].astype(np.float32, copy=False)
