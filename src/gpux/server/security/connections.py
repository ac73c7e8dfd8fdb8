"""Connections of uvicorn with limits that it does not have: for the size of a request's head, and the time it takes."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gpux.server.settings import ServerSettings

#: Bytes of the request line and the headers.
LARGEST_HEAD = 64 << 10
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Connection(HttpToolsProtocol):
    """One connection.

    A client has :attr:`head_timeout` seconds from the connection, or from the first byte after a request, to the end
    of a request's headers. Without this limit, clients that send nothing hold connections for any time.
    """

    head_timeout = 30.0
    _timer: asyncio.TimerHandle | None = None
    _head = 0  #: bytes since the last headers ended
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """See :class:`asyncio.Protocol`."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        if self._in_head:
            self._head += len(data)
            if self._timer is None:
                self._start_timer()
        super().data_received(data)
        if self._in_head and self._head > LARGEST_HEAD and not self.transport.is_closing():
            self._end(_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """The headers of a request are read."""
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body of a request is read."""
        super().on_message_complete()
        self._stop_timer()
        self._in_head = True
        self._head = 0

    def on_response_complete(self) -> None:
        """A request is answered; the rest of its body, which is not used, has to end in time."""
        super().on_response_complete()
        if not self._in_head and self._timer is None and not self.transport.is_closing():
            self._start_timer()

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(self.head_timeout, self._end, _TIMEOUT)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, response: bytes) -> None:
        self._stop_timer()
        if self.transport.is_closing():
            return
        # While a response is written, nothing may be written between its parts; its client gets no further one.
        if self._in_head and (self.cycle is None or self.cycle.response_complete):
            self.transport.write(response)
        elif response is _TIMEOUT and self.cycle is not None and not self.cycle.response_complete:
            self._start_timer()
            return
        self.transport.close()


def uvicorn_arguments(settings: ServerSettings) -> dict[str, Any]:
    """Arguments of :class:`uvicorn.Config` that limit what clients can do."""
    return {
        "http": type("Connection", (Connection,), {"head_timeout": settings.body_timeout}),  # uvicorn calls a class
        "ws": "none",
        "limit_concurrency": settings.max_connections,
        "timeout_keep_alive": 30,
    }
