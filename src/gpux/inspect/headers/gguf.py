"""Headers of GGUF files: metadata and tensors of a file of any size, with reads of a few hundred kilobytes.

Format: ggml's ``docs/gguf.md``. ``GGUF``, a 32-bit version (2 or 3), two 64-bit counts, the metadata, names, shapes,
types and offsets of the tensors, padding, the data. Strings are a 64-bit length and UTF-8 bytes; arrays an element
type, a 64-bit count and the elements. Big-endian files have the same structure with every number byte-swapped.
llama.cpp names the keys ``general.*``, ``<architecture>.*`` and ``tokenizer.*``.

A vocabulary takes megabytes and is not needed, so :class:`Skipper` finds its end by sampling: in a window anywhere
inside the strings, lengths and strings chain up after a few bytes; in a window behind them they do not. Sixteen small
windows at a time narrow the end down. If the rest of the header is then inconsistent, everything is read.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, Literal

from gpux.errors import CorruptFileError, GpuxError, UnsupportedError
from gpux.inspect.reads import FileReads
from gpux.model.values import Value

#: number -> name, weights per block, bytes per block (``ggml.h``)
TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    28: ("F64", 1, 8),
    30: ("BF16", 1, 2),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    29: ("IQ1_M", 256, 56),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}


def type_name(number: int) -> str:
    """``Q4_K`` …; ``type 99`` for an unknown type."""
    return TYPES[number][0] if number in TYPES else f"type {number}"


def stored_bytes(number: int, shape: tuple[int, ...]) -> int | None:
    """Bytes of a tensor; None for an unknown type, or rows that are not a multiple of the block size."""
    if number not in TYPES:
        return None
    _, weights, size = TYPES[number]
    if shape and shape[0] % weights:
        return None
    return prod(shape) // weights * size


FIRST = 64 << 10  #: bytes of the first read, and of the first read after a skip
LARGEST = 1 << 20  #: maximum bytes of a read; each read is twice as long as the one before
STRING = 16 << 20  #: maximum bytes of a string
KEPT = 256  #: maximum elements of an array that are kept; of a longer array, only the count is
_STRING, _ARRAY = 8, 9
#: value type -> struct format (``gguf_metadata_value_type``)
FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

Read = Callable[[int, int], bytes]  #: the bytes [start, stop) of the file
Order = Literal["<", ">"]


@dataclass(frozen=True)
class LongArray(Value):
    """An array whose elements were skipped: vocabularies, merges, scores."""

    count: int
    is_text: bool


class Window:
    """A forward-moving position in the file; skipped bytes are not read."""

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
        """The next bytes, without moving."""
        stop = self.position + length
        if stop > self.size:
            raise self.broken(f"it ends at byte {self.size}, but should extend to byte {stop}")
        if stop > self._base + len(self._data) or self.position < self._base:
            self._grow(stop)
        at = self.position - self._base
        return self._data[at : at + length]

    def skip(self, length: int) -> None:
        """Move forward without reading."""
        if length > self.size - self.position:
            raise self.broken(f"it ends at byte {self.size}, but should have {length} more bytes after {self.position}")
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
        """The next value of a type; long arrays become a :class:`LongArray`, strings skipped by ``skip_texts``."""
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
            f"cannot read {self.path} as a GGUF file: {why}",
            hint="Pull it again, or report it to the model's owner.",
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
        """Read more and discard the bytes before the current position."""
        kept = self._data[self.position - self._base :] if self._base <= self.position else b""
        if not kept:
            self._next = FIRST  # after a skip, little may be left
        start = self.position + len(kept)
        wanted = min(max(stop, start + self._next), self.size)
        more = self._read(start, wanted)
        if start + len(more) < stop:
            raise self.broken(f"only {start + len(more)} of {self.size} bytes were received")
        self._base, self._data = self.position, kept + more
        self._next = min(2 * self._next, LARGEST)


def skip_texts(window: Window, count: int) -> None:
    """Skip strings one by one, reading them all."""
    for _ in range(count):
        window.skip(window.number("Q"))


FEW = 20_000  #: fewer strings are read
PROBES = 16  #: windows per round
WIDTH = 4 << 10  #: bytes of a window
#: Upper estimate of the average bytes of a string with its length. The windows of a round are then 1.5 bytes per string
#: apart: closer than the token types (4 bytes each) between the tokens and the merges.
GENEROUS = 24
ROUNDS = 3  #: maximum rounds of extending the search, for vocabularies with longer strings
_LONGEST = 2048  #: maximum bytes of one string
_CHAIN = 6  #: chained strings that identify a vocabulary
_KEY = re.compile(rb"(tokenizer|general|split|quantize|[a-z0-9_-]+)\.[a-z0-9_.-]+")
_KINDS = 12

ReadEach = Callable[[Sequence[tuple[int, int]]], list[bytes]]  #: ranges of the file, read at once


class Skipper:
    """Skips long arrays of strings in one file."""

    def __init__(self, read_each: ReadEach) -> None:
        self._read_each = read_each
        self.skipped = 0  #: arrays whose end was found by sampling

    def __call__(self, window: Window, count: int) -> None:
        """Move behind ``count`` strings."""
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
        """Positions between which the strings end, searched from ``low``; the last sampled position if not found."""
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
        """The position of the first metadata key in the range."""
        [data] = self._read_each([(low, min(high + WIDTH, window.size))])
        return next((low + place for place in _keys(data)), None)


def _is_chain(data: bytes) -> bool:
    """Whether a chain of strings begins near the start of the data."""
    for start in range(min(len(data), _LONGEST)):
        place, steps = start, 0
        while steps < _CHAIN and (after := _after(data, place)) is not None:
            place, steps = after, steps + 1
        if steps == _CHAIN or (steps > 1 and place >= len(data)):
            return True
    return False


def _after(data: bytes, place: int) -> int | None:
    """The position after the string at ``place``; None if there cannot be a string."""
    if place + 8 > len(data):
        return None
    (length,) = struct.unpack_from("<Q", data, place)
    return place + 8 + length if 0 < length <= _LONGEST else None


def _keys(data: bytes) -> list[int]:
    """Positions of metadata keys: a length, a dotted name of that length, and a type number."""
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


MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32  #: bytes; default of ``general.alignment``
_DIMENSIONS = 4
_MOST = 1 << 20  #: maximum number of keys or tensors


@dataclass(frozen=True)
class GgufTensor(Value):
    """One tensor; its shape has the innermost dimension first, as in the file."""

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int  #: of its first byte, after the header
    bytes: int | None  #: None for an unknown type

    @property
    def elements(self) -> int:
        """Number of weights."""
        return prod(self.shape)


@dataclass(frozen=True)
class GgufFile(Value):
    """The header of one file."""

    path: str
    version: int
    big_endian: bool
    metadata: Mapping[str, Any]  #: long arrays are :class:`LongArray`
    tensors: tuple[GgufTensor, ...]
    data_start: int  #: position in the file of the first tensor's data


def read_gguf(reads: FileReads, path: str) -> GgufFile:
    """Read the header of one of a model's files.

    Raises:
        CorruptFileError: the file is not a GGUF file, or is truncated; the message names it.
        UnsupportedError: the version is not supported.
        ManagerError: the source refuses; the subclass states why.
    """

    def read_each(ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        found = reads.read_each([(path, start, stop) for start, stop in ranges])
        for answer in found:
            if isinstance(answer, GpuxError):
                raise answer
        return [answer for answer in found if isinstance(answer, bytes)]

    return parse_gguf(lambda start, stop: reads.read(path, start, stop), reads.size(path), path, read_each)


def parse_gguf(read: Callable[[int, int], bytes], size: int, path: str, read_each: ReadEach | None = None) -> GgufFile:
    """Read a header with a function that reads ``[start, stop)``; with ``read_each``, long vocabularies are skipped."""
    if read_each is not None:
        skipper = Skipper(read_each)
        try:
            return _parse(Window(read, size, path), skipper)
        except CorruptFileError:
            if not skipper.skipped:
                raise  # else the end of the vocabulary may have been found wrongly: read it all
    return _parse(Window(read, size, path), skip_texts)


def _parse(window: Window, skip: Callable[[Window, int], None]) -> GgufFile:
    version, big = _version(window)
    tensors, keys = window.number("Q"), window.number("Q")
    if max(tensors, keys) > _MOST:
        raise window.broken(f"it states {tensors} tensors and {keys} keys")
    metadata = {}
    for _ in range(keys):
        key = window.text()
        metadata[key] = window.value(window.number("I"), skip)
    found = tuple(_tensor(window) for _ in range(tensors))
    alignment = metadata.get("general.alignment", ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or alignment % 8:
        raise window.broken(f"its alignment is {alignment}")
    start = -(-window.position // alignment) * alignment
    _check(window, found, start, alignment)
    return GgufFile(window.path, version, big, metadata, found, start)


def _version(window: Window) -> tuple[int, bool]:
    """Version and byte order: if the low half of the version is 0, the file is big-endian."""
    magic = window.take(4) if window.size >= 4 else b""
    if magic != MAGIC:
        raise window.broken(f"it begins with {magic!r} instead of {MAGIC!r}")
    raw = window.take(4)
    version = int.from_bytes(raw, "little")
    big = version & 0xFFFF == 0 and version != 0
    if big:
        version, window.order = int.from_bytes(raw, "big"), ">"
    if version not in VERSIONS:
        raise UnsupportedError(
            f"{window.path} has GGUF version {version}; supported: {', '.join(map(str, VERSIONS))}",
            hint="Convert the model again with a current llama.cpp.",
            file=window.path,
        )
    return version, big


def _tensor(window: Window) -> GgufTensor:
    name, dimensions = window.text(), window.number("I")
    if dimensions > _DIMENSIONS:
        raise window.broken(f"the tensor {name[:64]!r} has {dimensions} dimensions")
    shape = tuple(window.number("Q") for _ in range(dimensions))
    kind, offset = window.number("I"), window.number("Q")
    return GgufTensor(name, type_name(kind), shape, offset, stored_bytes(kind, shape))


def _check(window: Window, tensors: Sequence[GgufTensor], start: int, alignment: int) -> None:
    """Check that the tensors are contiguous and end inside the file.

    Raises:
        CorruptFileError: they are not, or the file is truncated.
    """
    place: int | None = 0
    for tensor in tensors:
        if place is not None and tensor.offset != place:
            raise window.broken(f"the tensor {tensor.name[:64]!r} begins at {tensor.offset} instead of {place}")
        if tensor.bytes is not None and start + tensor.offset + tensor.bytes > window.size:
            raise window.broken(
                f"the tensor {tensor.name[:64]!r} ends at byte {start + tensor.offset + tensor.bytes}, "
                f"but the file has {window.size}"
            )
        end = None if tensor.bytes is None else tensor.offset + tensor.bytes
        place = None if end is None else -(-end // alignment) * alignment
