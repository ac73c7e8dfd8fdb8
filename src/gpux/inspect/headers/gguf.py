"""Headers of GGUF files: metadata and tensors of a file of any size, by reads of some hundred kilobytes.

Format: ggml's ``docs/gguf.md``. ``GGUF``, a 32-bit version (2 or 3), two 64-bit counts, the metadata, the tensors'
names, shapes, types and places, and behind padding the data. Written by llama.cpp, which names the keys ``general.*``,
``<architecture>.*`` and ``tokenizer.*``.
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

#: number -> name, weights of a block, bytes of a block
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
    """``Q4_K``; ``type 99`` for one that is not known."""
    return TYPES[number][0] if number in TYPES else f"type {number}"


def stored_bytes(number: int, shape: tuple[int, ...]) -> int | None:
    """Bytes of a tensor; None for an unknown type, or rows that no whole blocks fill."""
    if number not in TYPES:
        return None
    _, weights, size = TYPES[number]
    if shape and shape[0] % weights:
        return None
    return prod(shape) // weights * size


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


MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32  #: bytes, where ``general.alignment`` tells no other
_DIMENSIONS = 4
_MOST = 1 << 20  #: keys or tensors, at most


@dataclass(frozen=True)
class GgufTensor(Value):
    """One tensor: its type by name, its shape with the innermost dimension first, as the file has it."""

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int  #: of its first byte, behind the header
    bytes: int | None  #: None for a type that gpux does not know

    @property
    def elements(self) -> int:
        """How many weights it holds."""
        return prod(self.shape)


@dataclass(frozen=True)
class GgufFile(Value):
    """The header of one file."""

    path: str
    version: int
    big_endian: bool
    metadata: Mapping[str, Any]  #: without the elements of long arrays, see :class:`LongArray`
    tensors: tuple[GgufTensor, ...]
    data_start: int  #: byte of the file at which the first tensor's data begins


def read_gguf(reads: FileReads, path: str) -> GgufFile:
    """The header of one of a model's files.

    Raises:
        CorruptFileError: it is no GGUF file, or it is cut; the message names it.
        UnsupportedError: a version that this reader does not know.
        ManagerError: the source refuses; the subclass says why.
    """

    def read_each(ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        found = reads.read_each([(path, start, stop) for start, stop in ranges])
        for answer in found:
            if isinstance(answer, GpuxError):
                raise answer
        return [answer for answer in found if isinstance(answer, bytes)]

    return parse_gguf(lambda start, stop: reads.read(path, start, stop), reads.size(path), path, read_each)


def parse_gguf(read: Callable[[int, int], bytes], size: int, path: str, read_each: ReadEach | None = None) -> GgufFile:
    """The same by a function that reads ``[start, stop)``; with ``read_each``, long vocabularies are passed over."""
    if read_each is not None:
        skipper = Skipper(read_each)
        try:
            return _parse(Window(read, size, path), skipper)
        except CorruptFileError:
            if not skipper.skipped:
                raise  # else what was found behind the vocabulary does not add up: read all of it
    return _parse(Window(read, size, path), skip_texts)


def _parse(window: Window, skip: Callable[[Window, int], None]) -> GgufFile:
    version, big = _version(window)
    tensors, keys = window.number("Q"), window.number("Q")
    if max(tensors, keys) > _MOST:
        raise window.broken(f"it would have {tensors} tensors and {keys} keys")
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
    """Version and byte order: a version whose low half is empty was written the other way round."""
    magic = window.take(4) if window.size >= 4 else b""
    if magic != MAGIC:
        raise window.broken(f"it begins with {magic!r} and not with {MAGIC!r}")
    raw = window.take(4)
    version = int.from_bytes(raw, "little")
    big = version & 0xFFFF == 0 and version != 0
    if big:
        version, window.order = int.from_bytes(raw, "big"), ">"
    if version not in VERSIONS:
        raise UnsupportedError(
            f"{window.path} is a GGUF file of version {version}; known: {', '.join(map(str, VERSIONS))}",
            hint="Convert the model again with a present llama.cpp.",
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
    """Every tensor begins where the one before it ends, and the last one ends in the file.

    Raises:
        CorruptFileError: they do not, or the file is cut.
    """
    place: int | None = 0
    for tensor in tensors:
        if place is not None and tensor.offset != place:
            raise window.broken(f"the tensor {tensor.name[:64]!r} begins at {tensor.offset} and not at {place}")
        if tensor.bytes is not None and start + tensor.offset + tensor.bytes > window.size:
            raise window.broken(
                f"the tensor {tensor.name[:64]!r} ends at byte {start + tensor.offset + tensor.bytes}, "
                f"and the file has {window.size}"
            )
        end = None if tensor.bytes is None else tensor.offset + tensor.bytes
        place = None if end is None else -(-end // alignment) * alignment
