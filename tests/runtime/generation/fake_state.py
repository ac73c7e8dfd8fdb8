"""A model of two tables for the loops: scores of the next token by the last two of its row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpux.runtime.generation.engine.state import Ids, Scores
from tests.runtime.generation.golden import ARRAYS


class TableState:
    """Keeps each row's tokens as a real one keeps their keys and values, and refuses what a real one could not do."""

    def __init__(
        self,
        limit: int | None = None,
        last: NDArray[np.float32] = ARRAYS["table/last"],
        before: NDArray[np.float32] = ARRAYS["table/before"],
    ) -> None:
        self.limit = limit
        self.cached: list[list[int]] = []
        self.calls: list[str] = []
        self._last, self._before = last, before
        self._answer: Scores = np.empty((0, last.shape[1]), np.float32)

    @property
    def rows(self) -> int:
        return len(self.cached)

    @property
    def lengths(self) -> Ids:
        return np.array([len(row) for row in self.cached], np.int64)

    def start(self, prompts: Sequence[Sequence[int]]) -> Scores:
        assert not self.cached and all(prompts)
        self.calls.append(f"start {len(prompts)}")
        self.cached = [list(prompt) for prompt in prompts]
        return self._scores()

    def step(self, tokens: Ids) -> Scores:
        assert tokens.shape == (self.rows,) and tokens.dtype == np.int64
        self.calls.append(f"step {self.rows}")
        for row, token in zip(self.cached, tokens.tolist(), strict=True):
            row.append(token)
        assert self.limit is None or self.lengths.max() <= self.limit
        return self._scores()

    def extend(self, tokens: Sequence[int]) -> Scores:
        assert self.rows == 1 and tokens
        self.calls.append(f"extend {len(tokens)}")
        found = []
        for token in tokens:
            self.cached[0].append(token)
            found.append(self._row(self.cached[0]))
        assert self.limit is None or len(self.cached[0]) <= self.limit
        return np.stack(found)

    def truncate(self, length: int) -> None:
        assert self.rows == 1 and 0 < length <= len(self.cached[0])
        del self.cached[0][length:]

    def keep(self, rows: Sequence[int]) -> None:
        self.calls.append(f"keep {list(rows)}")
        self.cached = [list(self.cached[row]) for row in rows]
        self._answer.fill(np.nan)  # whoever still reads the scores of before must have copied them

    def close(self) -> None:
        self.cached = []

    def _row(self, tokens: Sequence[int]) -> Scores:
        return self._last[tokens[-1]] + self._before[tokens[-2] if len(tokens) > 1 else 0]

    def _scores(self) -> Scores:
        """A buffer that the next call overwrites, as a real one's."""
        self._answer.fill(np.nan)
        self._answer = np.stack([self._row(row) for row in self.cached])
        return self._answer
