"""The values of a GGUF file as they lie in it, read one after another through a window that grows as it is needed.

Format: ggml's ``docs/gguf.md``, "File Structure". Strings are a 64-bit length and UTF-8 bytes; arrays an element type,
a 64-bit count and the elements. Big-endian files have the same structure with every number the other way round.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from gpux.errors import CorruptFileError
from gpux.model.values import Value

FIRST = 64 << 10  #: bytes of the first read, and of the first one behind what was passed over
LARGEST = 1 << 20  #: bytes of a further one; each is twice the one before, up to this
STRING = 16 << 20  #: bytes of a string, at most: a longer one is no string
KEPT = 256  #: elements of an array that are kept; of longer ones only their number is
_STRING, _ARRAY = 8, 9
#: value type -> struct format (``gguf_metadata_value_type``)
FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

Read = Callable[[int, int], bytes]  #: the bytes [start, stop) of the file
Order = Literal["<", ">"]


@dataclass(frozen=True)
class LongArray(Value):
    """An array whose elements were passed over: vocabularies, merges, scores."""

    count: int
    is_text: bool


class Window:
    """A place in the file that moves forward; what is passed over without being looked at is not read."""

    def __init__(self, read: Read, size: int, path: str) -> None:
        self.path = path
        self.size = size
        self.order: Order = "<"
        self.position = 0  #: in the file
        self._read = read
        self._next = FIRST
        self._base, self._data = 0, b""

    def take(self, length: int) -> bytes:
        """The next bytes.

        Raises:
            CorruptFileError: the file ends before.
        """
        found = self.peek(length)
        self.position += length
        return found

    def peek(self, length: int) -> bytes:
        """The same, without moving."""
        stop = self.position + length
        if stop > self.size:
            raise self.broken(f"it ends at byte {self.size}, and goes on to {stop} by what it says")
        if stop > self._base + len(self._data) or self.position < self._base:
            self._grow(stop)
        at = self.position - self._base
        return self._data[at : at + length]

    def skip(self, length: int) -> None:
        """Move on without reading."""
        if length > self.size - self.position:
            raise self.broken(f"it ends at byte {self.size}, and goes on for {length} from {self.position}")
        self.position += length

    def number(self, code: str) -> Any:
        """The next number, by its code in :mod:`struct`."""
        return struct.unpack(self.order + code, self.take(struct.calcsize(f"={code}")))[0]

    def text(self) -> str:
        """The next string."""
        length = self.number("Q")
        if length > STRING:
            raise self.broken(f"a string of {length} bytes begins at byte {self.position - 8}")
        return self.take(length).decode("utf-8", errors="replace")

    def value(self, kind: int, skip_texts: Callable[[Window, int], None]) -> Any:
        """The next value of a type; long arrays become a :class:`LongArray`, texts passed over by ``skip_texts``."""
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._array(skip_texts)
        if kind not in FORMATS:
            raise self.broken(f"a value of the unknown type {kind} begins at byte {self.position}")
        return self.number(FORMATS[kind])

    def broken(self, why: str) -> CorruptFileError:
        """The error for this file."""
        return CorruptFileError(
            f"{self.path} is no GGUF file that can be read: {why}",
            hint="Pull it again, or tell the model's owner.",
            file=self.path,
        )

    def _array(self, skip_texts: Callable[[Window, int], None]) -> Any:
        kind, count = self.number("I"), self.number("Q")
        if count > self.size:
            raise self.broken(f"an array of {count} elements begins at byte {self.position}")
        if kind in FORMATS:
            width = struct.calcsize(f"={FORMATS[kind]}")
            if count > KEPT:
                self.skip(count * width)
                return LongArray(count, is_text=False)
            return list(struct.unpack(f"{self.order}{count}{FORMATS[kind]}", self.take(count * width)))
        if count <= KEPT:
            return [self.value(kind, skip_texts) for _ in range(count)]
        if kind != _STRING:
            raise self.broken(f"an array of {count} elements of the type {kind} begins at byte {self.position}")
        skip_texts(self, count)
        return LongArray(count, is_text=True)

    def _grow(self, stop: int) -> None:
        """Read on; what lies before the present place is let go of."""
        kept = self._data[self.position - self._base :] if self._base <= self.position else b""
        if not kept:
            self._next = FIRST  # something was passed over: the way behind it may be short
        start = self.position + len(kept)
        wanted = min(max(stop, start + self._next), self.size)
        more = self._read(start, wanted)
        if start + len(more) < stop:
            raise self.broken(f"only {start + len(more)} of {self.size} bytes came")
        self._base, self._data = self.position, kept + more
        self._next = min(2 * self._next, LARGEST)


def skip_texts(window: Window, count: int) -> None:
    """Pass over strings one by one, reading them all."""
    for _ in range(count):
        window.skip(window.number("Q"))
