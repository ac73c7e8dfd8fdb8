"""Sends a reply over a socket, with the faults that apply to it."""

from __future__ import annotations

import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus

from tests.hub.faults import Fault, FaultKind, change_reply
from tests.hub.messages import CHUNK_SIZE, Reply

if sys.platform != "win32":
    import fcntl
    import termios

RESET_DELAY = 0.1
"""Seconds between the last byte and a reset, where the kernel does not report unacknowledged bytes."""
THROTTLED_BUFFER = 64 * 1024
_ACKNOWLEDGED_WITHIN = 10.0  # seconds


class Transfer:
    """The transmission of one reply. `stopping` ends all waits; `count` is called with the status and a number of
    bytes before they are sent."""

    def __init__(self, connection: socket.socket, stopping: threading.Event, count: Callable[[int, int], None]) -> None:
        self._socket = connection
        self._stopping = stopping
        self._count = count

    def send(self, reply: Reply, faults: list[Fault], *, head_only: bool, keep_alive: bool) -> bool:
        """Sends the reply; returns whether the connection can serve another request."""
        by_kind: dict[FaultKind, Fault] = {fault.kind: fault for fault in faults}
        if latency := by_kind.get("latency"):
            self._stopping.wait(latency.seconds)
        if "drop" in by_kind:
            return False
        if hang := by_kind.get("hang"):
            self._stopping.wait(hang.seconds)
            return False
        for fault in faults:
            reply = change_reply(fault, reply)
        chunked = "gzip" in by_kind and not head_only
        unannounced = "no_length" in by_kind
        keep_alive = keep_alive and not by_kind.keys() & {"no_length", "close", "reset"}
        self._count(reply.status, 0)
        self._socket.sendall(_head(reply, chunked=chunked, unannounced=unannounced, keep_alive=keep_alive))
        if not head_only:
            self._send_body(reply, by_kind, chunked=chunked)
        return keep_alive

    def _send_body(self, reply: Reply, faults: dict[FaultKind, Fault], *, chunked: bool) -> None:
        pieces = self._pieces(reply, faults)
        if throttle := faults.get("throttle"):
            # Bytes in the kernel count as sent; keep them few, so that a killed client has received almost all.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, THROTTLED_BUFFER)
            pieces = self._throttled(pieces, throttle.rate)
        for piece in pieces:
            self._count(reply.status, len(piece))
            self._socket.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            self._socket.sendall(b"0\r\n\r\n")
        if "reset" in faults:
            self._wait_until_acknowledged()
            reset_on_close(self._socket)

    def _wait_until_acknowledged(self) -> None:
        """Waits until the client has received all bytes: the kernel discards unsent bytes when it resets."""
        if sys.platform != "linux":
            self._stopping.wait(RESET_DELAY)
            return
        end = time.monotonic() + _ACKNOWLEDGED_WITHIN
        while time.monotonic() < end and not self._stopping.is_set():
            (unacknowledged,) = struct.unpack("i", fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)))
            if not unacknowledged:
                return
            self._stopping.wait(0.005)

    def _pieces(self, reply: Reply, faults: dict[FaultKind, Fault]) -> Iterator[bytes]:
        """The bytes of the body with the faults applied: flipped, cut or interrupted."""
        flip = faults.get("flip")
        cut = faults.get("close") or faults.get("reset")
        stall = faults.get("stall")
        sent = 0
        for piece in reply.body.chunks():
            if flip:
                piece = _flip(piece, flip.offset - reply.body.start - sent)
            if cut and sent + len(piece) >= cut.after:
                yield piece[: cut.after - sent]
                return
            if stall and sent <= stall.after < sent + len(piece):
                yield piece[: stall.after - sent]
                self._stopping.wait(stall.seconds)
                yield piece[stall.after - sent :]
            else:
                yield piece
            sent += len(piece)

    def _throttled(self, pieces: Iterator[bytes], rate: int) -> Iterator[bytes]:
        """The same bytes, in twenty pieces per second."""
        size = min(max(rate // 20, 1), CHUNK_SIZE)
        begin, sent = time.monotonic(), 0
        for piece in pieces:
            for at in range(0, len(piece), size):
                part = piece[at : at + size]
                yield part
                sent += len(part)
                self._stopping.wait(max(begin + sent / rate - time.monotonic(), 0))


def reset_on_close(connection: socket.socket) -> None:
    """Makes the socket send RST instead of FIN when it is closed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def will_reset(connection: socket.socket) -> bool:
    """Whether `reset_on_close` was called on a socket."""
    size = struct.calcsize("ii")
    return bool(struct.unpack("ii", connection.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, size))[0])


def _head(reply: Reply, *, chunked: bool, unannounced: bool, keep_alive: bool) -> bytes:
    """The status line and headers. Line breaks in headers are removed, since error messages quote the request."""
    headers = {"Date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()), **reply.headers}
    if chunked:
        headers["Transfer-Encoding"] = "chunked"
    elif not unannounced and not any(name.lower() == "content-length" for name in headers):
        headers["Content-Length"] = str(reply.body.length)
    if not keep_alive:
        headers["Connection"] = "close"
    try:
        phrase = HTTPStatus(reply.status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {reply.status} {phrase}", *(f"{name}: {_safe(headers[name])}" for name in headers)]
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1", "replace")


def _safe(value: str) -> str:
    return "".join(char if char.isprintable() else " " for char in value)


def _flip(piece: bytes, at: int) -> bytes:
    """The piece with one byte inverted, if that is within it."""
    if not 0 <= at < len(piece):
        return piece
    return piece[:at] + bytes([piece[at] ^ 0xFF]) + piece[at + 1 :]
