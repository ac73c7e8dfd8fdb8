"""Messages on a pipe: four bytes of length, big-endian, then MessagePack. Bytes of arrays are not copied to text."""

from __future__ import annotations

from typing import Any

import msgspec

from gpux.server.workers.messages import FromWorker, ToWorker

#: Bytes of one message at most: the vectors of a request of the largest size fit.
LARGEST = 1 << 30
HEADER = 4

_encoder = msgspec.msgpack.Encoder()
_to_worker = msgspec.msgpack.Decoder(ToWorker)
_from_worker = msgspec.msgpack.Decoder(FromWorker)


def encode(message: Any) -> bytes:
    """A message with its length.

    Raises:
        ValueError: it is larger than :data:`LARGEST`.
    """
    buffer = bytearray(HEADER)
    _encoder.encode_into(message, buffer, HEADER)
    size = len(buffer) - HEADER
    if size > LARGEST:
        raise ValueError(f"a message of {size} bytes")
    buffer[:HEADER] = size.to_bytes(HEADER, "big")
    return bytes(buffer)


def size_of(header: bytes) -> int:
    """Length of the message after a header.

    Raises:
        ValueError: no message is that long, so that the stream is not one of messages.
    """
    size = int.from_bytes(header, "big")
    if size > LARGEST:
        raise ValueError(f"a message of {size} bytes")
    return size


def decode_to_worker(data: bytes) -> ToWorker:
    """A message of the server."""
    return _to_worker.decode(data)


def decode_from_worker(data: bytes) -> FromWorker:
    """A message of a worker."""
    return _from_worker.decode(data)
