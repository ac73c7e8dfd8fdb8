"""Which tokens the rows of a state hold, and at which places of the cache they stand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


class Rows:
    """So many rows without tokens. A row's tokens stand behind its padding, one after the other."""

    def __init__(self, count: int) -> None:
        self.lengths: Ids = np.zeros(count, np.int64)  #: tokens of each
        self.padding: Ids = np.zeros(count, np.int64)  #: places before them
        self.tokens: list[list[int]] = [[] for _ in range(count)]
        self.single = count == 1  #: one row without padding

    @property
    def width(self) -> int:
        """Places of the longest row, padding included."""
        return int((self.lengths + self.padding).max(initial=0))

    def mask(self, added: int) -> Ids:
        """1 where there is a token once so many came to each row, ``[rows, places]``."""
        return self.placed(self.width + added, self.lengths + added)

    def placed(self, total: int, lengths: Ids) -> Ids:
        """The mask of so many places, for rows of these lengths behind their padding."""
        places, first = np.arange(total), self.padding[:, None]
        return ((places >= first) & (places < lengths[:, None] + first)).astype(np.int64)

    def step(self, tokens: Iterable[int]) -> None:
        """One more token for each row."""
        self.lengths += 1
        for held, token in zip(self.tokens, tokens, strict=True):
            held.append(int(token))

    def append(self, row: int, tokens: Sequence[int]) -> None:
        """Several more tokens for one row."""
        self.lengths[row] += len(tokens)
        self.tokens[row].extend(map(int, tokens))

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

    def keep(self, rows: Sequence[int], spare: int) -> None:
        """Go on with these rows, in this order, each with so much less padding."""
        self.lengths, self.padding = self.lengths[rows], self.padding[rows] - spare
        self.tokens = [list(self.tokens[row]) for row in rows]
        self.single = len(self.tokens) == 1 and not self.padding[0]
