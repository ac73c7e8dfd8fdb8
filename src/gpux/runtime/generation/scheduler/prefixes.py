"""Kept keys and values of ended answers, for prompts that begin with the same tokens."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Kept:
    """The tokens of an ended answer, its prompt's first, and what the cache held for them."""

    ids: Ids
    arrays: Sequence[NDArray[Any]]
    nbytes: int


class Prefixes:
    """Keeps several conversations; those that were not used for the longest time go first.

    Args:
        limit: bytes of all kept arrays at most; 0 keeps nothing.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.nbytes = 0  #: bytes of the kept arrays
        self._kept: OrderedDict[int, Kept] = OrderedDict()  # the least recently used first
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._kept)

    def best(self, prompt: Ids) -> tuple[int, Kept | None]:
        """How many tokens of a prompt, without its last, the best one begins with, and that one, now used."""
        found = max(((shared(kept.ids, prompt), number) for number, kept in self._kept.items()), default=(0, None))
        if not found[0]:
            return 0, None
        number = found[1]
        assert number is not None
        self._kept.move_to_end(number)
        return found[0], self._kept[number]

    def keep(self, ids: Ids, nbytes: int, read: Callable[[], Sequence[NDArray[Any]]]) -> None:
        """Keep an answer, in place of those that it continues; ``read`` is called only if it is kept."""
        for number, kept in list(self._kept.items()):
            if ids.size <= kept.ids.size and np.array_equal(kept.ids[: ids.size], ids):
                self._kept.move_to_end(number)
                return
        if not ids.size or nbytes > self.limit:
            return
        for number, kept in list(self._kept.items()):
            if np.array_equal(ids[: kept.ids.size], kept.ids):
                self._drop(number)
        while self.nbytes + nbytes > self.limit:
            self._drop(next(iter(self._kept)))
        self._kept[next(self._numbers)] = Kept(ids.copy(), read(), nbytes)
        self.nbytes += nbytes

    def clear(self) -> None:
        """Release everything."""
        self._kept.clear()
        self.nbytes = 0

    def _drop(self, number: int) -> None:
        self.nbytes -= self._kept.pop(number).nbytes


def shared(held: Ids, prompt: Ids) -> int:
    """Length of the common prefix of tokens in a cache and a prompt, without the prompt's last token."""
    most = max(0, min(held.size, prompt.size - 1))
    different = np.flatnonzero(held[:most] != prompt[:most])
    return int(different[0]) if different.size else most
