"""Which bytes of a file are here: a set of byte ranges, pure and without a lock."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Range = tuple[int, int]  #: first byte, and the one after the last


class Ranges:
    """Bytes that are here, as sorted ranges with a gap between each two."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self.total = 0  #: how many bytes are here
        for start, stop in ranges:
            self.add(start, stop)

    def __iter__(self) -> Iterator[Range]:
        return iter(list(zip(self._starts, self._stops, strict=True)))

    def add(self, start: int, stop: int) -> Range:
        """Note that ``[start, stop)`` is here too; returns the range without a gap that it now is in.

        Raises:
            ValueError: the range is empty or begins below zero.
        """
        if not 0 <= start < stop:
            raise ValueError(f"no range of bytes: {start} to {stop}")
        first = bisect_left(self._stops, start)  # touching ranges become one
        last = bisect_right(self._starts, stop)
        replaced = sum(self._stops[i] - self._starts[i] for i in range(first, last))
        if first < last:
            start, stop = min(start, self._starts[first]), max(stop, self._stops[last - 1])
        self._starts[first:last], self._stops[first:last] = [start], [stop]
        self.total += stop - start - replaced
        return start, stop

    def gaps(self, start: int, stop: int) -> list[Range]:
        """What of ``[start, stop)`` is not here, in order."""
        found: list[Range] = []
        for index in range(bisect_right(self._stops, start), len(self._starts)):
            if self._starts[index] >= stop:
                break
            if start < self._starts[index]:
                found.append((start, self._starts[index]))
            start = max(start, self._stops[index])
        return [*found, (start, stop)] if start < stop else found

    @property
    def frontier(self) -> int:
        """How many bytes are here from the file's beginning on, without a gap."""
        return self._stops[0] if self._starts and self._starts[0] == 0 else 0


def pieces(gaps: Iterable[Range], size: int) -> list[Range]:
    """The gaps cut into pieces of at most ``size`` bytes, each fetched by one request."""
    return [(at, min(at + size, stop)) for start, stop in gaps for at in range(start, stop, size)]
