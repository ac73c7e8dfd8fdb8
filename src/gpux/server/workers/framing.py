"""Messages on a pipe: four bytes of length, big-endian, then MessagePack. Bytes of arrays are not copied to text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from gpux.errors import UsageError
from gpux.server.workers.messages import FromWorker, ToWorker

#: Bytes of one message at most: the vectors of a request of the largest size fit.
LARGEST = 1 << 30
HEADER = 4

_to_worker = msgspec.msgpack.Decoder(ToWorker)
_from_worker = msgspec.msgpack.Decoder(FromWorker)


def encoder(plain: Callable[[Any], Any] | None = None) -> Callable[[Any], bytes]:
    """A function of a message to its bytes, with their length before them.

    The function raises ``ValueError`` for a message that is larger than :data:`LARGEST`, and ``UsageError`` for a
    number that MessagePack does not have.

    Args:
        plain: of a value that MessagePack does not know to one that it knows.
    """
    writer = msgspec.msgpack.Encoder(enc_hook=plain)

    def encoded(message: Any) -> bytes:
        buffer = bytearray(HEADER)
        try:
            writer.encode_into(message, buffer, HEADER)
        except OverflowError:
            raise UsageError("a whole number has more than 64 bits", hint="Give a smaller one.") from None
        size = len(buffer) - HEADER
        if size > LARGEST:
            raise ValueError(f"a message of {size} bytes")
        buffer[:HEADER] = size.to_bytes(HEADER, "big")
        return bytes(buffer)

    return encoded


encode = encoder()


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
