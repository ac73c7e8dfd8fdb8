"""Reads an ONNX file without its weights, which is fast for a graph of any size.

The layout is protobuf's wire format (protobuf.dev, "Encoding") with the field numbers of onnx.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

import onnx

GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
#: Bytes from which an initializer's data is omitted.
LARGE = 10_000

#: number of a field, where it begins, where its content begins, where it ends
Field = tuple[int, int, int, int]


def read_structure(file: Path) -> onnx.ModelProto:
    """The model without the data of large initializers of its main graph; their names, dtypes and shapes are kept."""
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        kept = bytearray()
        for number, begin, content, end in _fields(data, 0, len(data)):
            kept += _whole(GRAPH, _light_graph(data, content, end)) if number == GRAPH else data[begin:end]
        model: onnx.ModelProto = onnx.ModelProto.FromString(bytes(kept))
        return model


def _light_graph(data: mmap.mmap, start: int, stop: int) -> bytes:
    kept = bytearray()
    for number, begin, content, end in _fields(data, start, stop):
        large = number == INITIALIZER and end - content >= LARGE
        kept += _whole(INITIALIZER, _light_tensor(data, content, end)) if large else data[begin:end]
    return bytes(kept)


def _light_tensor(data: mmap.mmap, start: int, stop: int) -> bytes:
    return b"".join(data[begin:end] for number, begin, _, end in _fields(data, start, stop) if number != RAW_DATA)


def _fields(data: mmap.mmap, at: int, stop: int) -> Iterator[Field]:
    while at < stop:
        begin = at
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind == _VARINT:
            size = _varint(data, at)[1] - at
        elif kind in (_EIGHT, _FOUR):
            size = 8 if kind == _EIGHT else 4
        else:
            raise ValueError(f"{kind} is not a wire type of protobuf")
        yield number, begin, at, at + size
        at += size


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    """A varint and the offset after it."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _whole(number: int, content: bytes) -> bytes:
    """A field with its tag and length."""
    return start_of(number, len(content)) + content


def start_of(number: int, size: int) -> bytes:
    """The tag and the length of a field of ``size`` bytes."""
    return _number(number << 3 | _BYTES) + _number(size)


def _number(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*encoded, value))
