"""Headers of GGUF files: metadata and tensors of a file of any size, by reads of some hundred kilobytes.

Format: ggml's ``docs/gguf.md``. ``GGUF``, a 32-bit version (2 or 3), two 64-bit counts, the metadata, the tensors'
names, shapes, types and places, and behind padding the data. Written by llama.cpp, which names the keys ``general.*``,
``<architecture>.*`` and ``tokenizer.*``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from gpux.errors import CorruptFileError, GpuxError, UnsupportedError
from gpux.inspect.headers.gguf_skipping import ReadEach, Skipper
from gpux.inspect.headers.gguf_types import stored_bytes, type_name
from gpux.inspect.headers.gguf_values import Window, skip_texts
from gpux.inspect.reads import FileReads
from gpux.model.values import Value

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
