"""The files that an ONNX graph refers to: the external data of its tensors, read without loading the weights.

A tensor whose ``data_location`` is ``EXTERNAL`` names its file under the key ``location`` of ``external_data``,
relative to the folder of the graph, with the ``offset`` and ``length`` of its bytes (onnx ``docs/ExternalData.md``).
Such tensors are initializers, attributes of nodes (``Constant``), and the same in subgraphs and functions. The messages
are walked in protobuf's wire format (protobuf.dev/programming-guides/encoding), so that the weights inside a graph of
2 GB are skipped, where ``onnx.load`` reads them all.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gpux.errors import CorruptFileError, UnsafePathError
from gpux.model.info import check_path
from gpux.model.values import Value

_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _TENSOR, _SPARSE, _FUNCTION, _TRAINING = range(8)
#: message -> number of a field -> message in it; the fields of ``onnx.proto`` that lead to tensors
_FIELDS: dict[int, dict[int, int]] = {
    _MODEL: {7: _GRAPH, 20: _TRAINING, 25: _FUNCTION},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
    _TRAINING: {1: _GRAPH, 2: _GRAPH},
}
#: fields of a tensor, and of an entry of its ``external_data``
_EXTERNAL_DATA, _DATA_LOCATION, _KEY, _VALUE = 13, 14, 1, 2
_EXTERNAL = 1
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5  #: wire types
_DEEPEST = 100  #: nested messages, protobuf's own limit


@dataclass(frozen=True)
class ExternalFile(Value):
    """One file of external data."""

    path: str  #: relative to the folder of the graph, with forward slashes
    size: int  #: bytes that the graph reads of it at least


def external_files(graph: Path) -> tuple[ExternalFile, ...]:
    """The files that an ONNX file reads besides itself, sorted by path; empty where it holds all its weights.

    Raises:
        CorruptFileError: the file is not an ONNX graph, or a tensor is external without a location.
        UnsafePathError: a file would be outside the graph's folder.
        OSError: the file cannot be read.
    """
    found: dict[str, int] = {}
    with graph.open("rb") as file:
        if not graph.stat().st_size:
            raise _broken(graph, "it is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                for start, stop in _tensors(data, 0, len(data), _MODEL, 0):
                    _add(graph, _entries(data, start, stop), found)
            except (IndexError, ValueError) as exc:
                raise _broken(graph, str(exc)) from exc
    return tuple(ExternalFile(path, size) for path, size in sorted(found.items()))


def _add(graph: Path, entries: dict[str, str], found: dict[str, int]) -> None:
    if not entries:
        return
    location = entries.get("location", "")
    path = location.removeprefix("./")
    if not path:
        raise ValueError("a tensor is in another file, and the file has no name")
    try:
        check_path(path)
    except UnsafePathError as exc:
        message = f"{graph.name} reads weights from {location!r}, outside of its folder"
        hint = "gpux reads no such file; report this to the owner of the model."
        raise UnsafePathError(message, hint=hint, file=location, graph=graph.name) from exc
    end = int(entries.get("offset", 0)) + int(entries.get("length", 0))
    found[path] = max(end, found.get(path, 0))


def _tensors(data: mmap.mmap, start: int, stop: int, kind: int, depth: int) -> Iterator[tuple[int, int]]:
    """The places of all tensors inside a message."""
    if depth > _DEEPEST:
        raise ValueError(f"messages are nested more than {_DEEPEST} levels deep")
    inner = _FIELDS[kind]
    for number, first, last in _fields(data, start, stop):
        found = inner.get(number)
        if found == _TENSOR:
            yield first, last
        elif found is not None:
            yield from _tensors(data, first, last, found, depth + 1)


def _entries(data: mmap.mmap, start: int, stop: int) -> dict[str, str]:
    """The external data of a tensor, key -> value; empty for a tensor inside the graph."""
    entries, external = {}, False
    for number, first, last in _fields(data, start, stop):
        if number == _DATA_LOCATION:
            external = first == _EXTERNAL
        elif number == _EXTERNAL_DATA:
            texts = {n: data[begin:end].decode("utf-8") for n, begin, end in _fields(data, first, last)}
            entries[texts.get(_KEY, "")] = texts.get(_VALUE, "")
    return (entries or {"location": ""}) if external else {}


def _fields(data: mmap.mmap, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """The fields of a message: number, and the place of the content; of an integer, its value twice."""
    at = start
    while at < stop:
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, value, value
            continue
        if wire == _LENGTH:
            length, at = _varint(data, at)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"byte {at} is not protobuf")
        if not number or at + length > stop:
            raise ValueError(f"a field ends {at + length - stop} bytes after its message" if number else "no field")
        if wire == _LENGTH:
            yield number, at, at + length
        at += length


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    """An integer in base 128, the lowest digits first, and the place after it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError(f"byte {at} is not protobuf")


def _broken(graph: Path, why: str) -> CorruptFileError:
    return CorruptFileError(
        f"{graph.name} is not a readable ONNX graph: {why}",
        hint="Pull it again, or report it to the owner of the model.",
        file=graph.name,
    )
