"""Which tokens the rows of a state hold, and at which places of the cache they stand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


class Rows:
    """Rows without tokens. A row's tokens stand behind its padding, one after the other.

    Args:
        padding: places before each row, ``[rows]``.
    """

    def __init__(self, padding: Sequence[int] | Ids) -> None:
        self.padding: Ids = np.array(padding, np.int64)
        self.lengths: Ids = np.zeros_like(self.padding)  #: tokens of each
        self._held: list[list[int]] = [[] for _ in padding]
        self._newest: list[list[int]] = []  # what came to all rows since, a token each
        self._measure()

    @property
    def tokens(self) -> list[list[int]]:
        """What each row holds."""
        for row, held in enumerate(self._held if self._newest else ()):
            held.extend(step[row] for step in self._newest)
        self._newest.clear()
        return self._held

    def mask(self, added: int) -> Ids:
        """1 where there is a token once so many came to each row, ``[rows, places]``."""
        return self.placed(self.width + added, self.lengths + added)

    def placed(self, total: int, lengths: Ids) -> Ids:
        """The mask of so many places, for rows of these lengths behind their padding."""
        places, first = np.arange(total), self.padding[:, None]
        return ((places >= first) & (places < lengths[:, None] + first)).astype(np.int64)

    def step(self, tokens: Ids) -> None:
        """One more token for each row, ``[rows]``. Done once a token: what holds for all rows goes on holding."""
        self.lengths += 1
        self.width += 1
        self._newest.append(tokens.tolist())

    def append(self, row: int, tokens: Sequence[int]) -> None:
        """Several more tokens for one row."""
        self.tokens[row].extend(map(int, tokens))
        self.lengths[row] += len(tokens)
        self._measure()

    def shared(self, prompt: Sequence[int]) -> int:
        """How many tokens at the beginning of a prompt the only row holds; not the last, which is always read anew."""
        held = self.tokens[0] if len(self.tokens) == 1 else []
        most = min(len(held), len(prompt) - 1)
        return next((place for place in range(most) if held[place] != prompt[place]), most)

    def truncate(self, length: int) -> None:
        """Forget what each row has beyond so many tokens."""
        self.lengths = np.minimum(self.lengths, length)
        for held in self.tokens:
            del held[length:]
        self._measure()

    def keep(self, rows: Sequence[int], spare: int) -> None:
        """Go on with these rows, in this order, each with so much less padding."""
        self.lengths, self.padding = self.lengths[rows], self.padding[rows] - spare
        self._held = [list(self.tokens[row]) for row in rows]
        self._measure()

    def _measure(self) -> None:
        """What a step keeps up by itself, since it is asked for once a token."""
        #: places of the longest row, padding included
        self.width = int((self.lengths + self.padding).max(initial=0))
        #: all rows are of one length, without padding
        self.even = not self.padding.any() and bool((self.lengths == self.width).all())
