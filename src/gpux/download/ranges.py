"""The set of byte ranges of a file that have arrived: a pure data structure without a lock."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Range = tuple[int, int]  #: the first byte, and the byte after the last one


class Ranges:
    """The bytes that have arrived, as sorted ranges that neither overlap nor touch."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self.total = 0  #: number of bytes in all ranges
        for start, stop in ranges:
            self.add(start, stop)

    def __iter__(self) -> Iterator[Range]:
        return iter(list(zip(self._starts, self._stops, strict=True)))

    def add(self, start: int, stop: int) -> Range:
        """Add ``[start, stop)``; returns the merged range that now contains it.

        Raises:
            ValueError: the range is empty or starts below zero.
        """
        if not 0 <= start < stop:
            raise ValueError(f"not a range of bytes: {start} to {stop}")
        first = bisect_left(self._stops, start)  # ranges that touch are merged
        last = bisect_right(self._starts, stop)
        replaced = sum(self._stops[i] - self._starts[i] for i in range(first, last))
        if first < last:
            start, stop = min(start, self._starts[first]), max(stop, self._stops[last - 1])
        self._starts[first:last], self._stops[first:last] = [start], [stop]
        self.total += stop - start - replaced
        return start, stop

    def gaps(self, start: int, stop: int) -> list[Range]:
        """The parts of ``[start, stop)`` that have not arrived, in order."""
        found: list[Range] = []
        for index in range(bisect_right(self._stops, start), len(self._starts)):
            if self._starts[index] >= stop:
                break
            if start < self._starts[index]:
                found.append((start, self._starts[index]))
            start = max(start, self._stops[index])
        return [*found, (start, stop)] if start < stop else found

    @property
    def prefix(self) -> int:
        """Number of bytes from the start of the file up to the first gap."""
        return self._stops[0] if self._starts and self._starts[0] == 0 else 0


def split(gaps: Iterable[Range], size: int) -> list[Range]:
    """The gaps, split into ranges of at most ``size`` bytes, each downloaded by one request."""
    return [(at, min(at + size, stop)) for start, stop in gaps for at in range(start, stop, size)]
