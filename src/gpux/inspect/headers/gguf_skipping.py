"""Passing over a vocabulary without reading it: a tokenizer's texts take megabytes, and what follows them is wanted.

Texts lie one behind another, each after its length, so where they end can only be found by reading them all, or by
looking: a window anywhere in them falls into step with them after a few bytes, one behind them does not. Sixteen small
windows at a time narrow the end down. The reader checks afterwards that what was found behind adds up; where it does
not, it reads everything.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from itertools import pairwise

from gpux.inspect.headers.gguf_values import Window, skip_texts

FEW = 20_000  #: texts that are not worth it
PROBES = 16  #: windows of one round
WIDTH = 4 << 10  #: bytes of a window
#: Bytes of a text and its length that few vocabularies have on average. A round's windows then lie 1.5 bytes for each
#: text apart: closer than the token types (4 bytes each) that lie between the tokens and the merges.
GENEROUS = 24
ROUNDS = 3  #: … of those that have more, so many times that is looked at
_LONGEST = 2048  #: bytes of one text
_CHAIN = 6  #: texts in a row that tell a vocabulary from anything else
_KEY = re.compile(rb"(tokenizer|general|split|quantize|[a-z0-9_-]+)\.[a-z0-9_.-]+")
_KINDS = 12

ReadEach = Callable[[Sequence[tuple[int, int]]], list[bytes]]  #: ranges of the file, read at once


class Skipper:
    """Passes over long arrays of texts, for a reader of one file."""

    def __init__(self, read_each: ReadEach) -> None:
        self._read_each = read_each
        self.skipped = 0  #: arrays whose end was found by looking

    def __call__(self, window: Window, count: int) -> None:
        """Move behind ``count`` texts."""
        if count < FEW or window.order != "<":
            skip_texts(window, count)
            return
        low, span = window.position, count * GENEROUS
        for _ in range(ROUNDS):
            edge = self._edge(window, low, low + span)
            if isinstance(edge, tuple):
                break
            low = edge
        end = self._key(window, *edge) if isinstance(edge, tuple) else None
        if end is None:
            skip_texts(window, count)
        else:
            self.skipped += 1
            window.position = end

    def _edge(self, window: Window, low: int, high: int) -> tuple[int, int] | int:
        """Between which places the texts end; ``low`` lies in them, or in front. The last one looked at if none."""
        high = min(high, window.size)
        while high - low > PROBES * WIDTH:
            step = (high - low) // PROBES
            places = [low + number * step for number in range(1, PROBES + 1)]
            found = self._read_each([(place, min(place + WIDTH, window.size)) for place in places])
            inside = [True, *(_is_chain(data) for data in found)]
            edge = next((i for i, (here, there) in enumerate(pairwise(inside)) if here and not there), None)
            if edge is None:
                return places[-1]
            low, high = low + edge * step, low + (edge + 1) * step
        return low, high

    def _key(self, window: Window, low: int, high: int) -> int | None:
        """The place of the first key between them."""
        [data] = self._read_each([(low, min(high + WIDTH, window.size))])
        return next((low + place for place in _keys(data)), None)


def _is_chain(data: bytes) -> bool:
    """Whether several texts in a row begin somewhere near the beginning."""
    for start in range(min(len(data), _LONGEST)):
        place, steps = start, 0
        while steps < _CHAIN and (after := _after(data, place)) is not None:
            place, steps = after, steps + 1
        if steps == _CHAIN or (steps > 1 and place >= len(data)):
            return True
    return False


def _after(data: bytes, place: int) -> int | None:
    """The place behind a text, None where none can begin."""
    if place + 8 > len(data):
        return None
    (length,) = struct.unpack_from("<Q", data, place)
    return place + 8 + length if 0 < length <= _LONGEST else None


def _keys(data: bytes) -> list[int]:
    """Where keys of metadata begin: a length, a dotted name of that length, and the number of a type."""
    found = []
    for match in _KEY.finditer(data):
        place, end = match.start() - 8, match.end()
        if place < 0 or end + 4 > len(data):
            continue
        (length,) = struct.unpack_from("<Q", data, place)
        (kind,) = struct.unpack_from("<I", data, end)
        if length == end - match.start() and kind <= _KINDS and length > 4:
            found.append(place)
    return found
