"""The open connections of one client, so that a read that blocks in one thread can be ended from another."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

#: Ends of those events of httpcore's "trace" extension that hand over a new stream, direct or through a proxy
#: (https://www.encode.io/httpcore/extensions/).
_OPENED = (".connect_tcp.complete", ".start_tls.complete")


class Connections:
    """Sees every connection that a client opens (as the request extension ``trace``), and can cut them all."""

    def __init__(self) -> None:
        self._streams: list[Any] = []
        self._lock = threading.Lock()
        self._cut = False

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Called by the HTTP library; keeps the streams of new connections."""
        if event.endswith(_OPENED):
            with self._lock:
                self._streams.append(info["return_value"])
                if self._cut:
                    _shut_down(info["return_value"])

    def cut(self) -> None:
        """End every read and write on them, now and later; closing alone would not wake a thread that waits."""
        with self._lock:
            self._cut = True
            for stream in self._streams:
                _shut_down(stream)


def _shut_down(stream: Any) -> None:
    sock = stream.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):  # closed already
            sock.shutdown(socket.SHUT_RDWR)
