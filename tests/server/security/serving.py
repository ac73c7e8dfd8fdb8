"""A server in a thread of the test, which can look into it; the connections are real ones."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from starlette.applications import Starlette

from gpux.server import create_app
from gpux.server.core import Core
from gpux.server.security.connections import uvicorn_arguments
from gpux.server.settings import ServerSettings
from gpux.system.settings import Settings
from tests.server.running import NO_TLS
from tests.waiting import wait_until


@dataclass(frozen=True)
class Local:
    """A running server."""

    app: Starlette
    port: int

    @property
    def core(self) -> Core:
        core: Core = self.app.state.core
        return core

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def request(self, method: str, path: str, **arguments: Any) -> httpx2.Response:
        with httpx2.Client(base_url=self.url, trust_env=False, timeout=60.0, verify=NO_TLS) as client:
            return client.request(method, path, **arguments)

    def raw(self, data: bytes, *, end: bool = True) -> bytes:
        """What the server answers to bytes, until it closes the connection; ``end``: close the sending side."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60.0) as connection:
            connection.sendall(data)
            if end:
                connection.shutdown(socket.SHUT_WR)
            parts = []
            try:
                while part := connection.recv(65536):
                    parts.append(part)
            except ConnectionResetError:
                pass
            return b"".join(parts)

    def get(self, path: str, *headers: str) -> int:
        """Status of a request whose headers are these lines and no others."""
        lines = [f"GET {path} HTTP/1.1", *headers, "Connection: close", "", ""]
        return status_of(self.raw("\r\n".join(lines).encode("latin-1"), end=False))


def status_of(answer: bytes) -> int:
    """The status of the first response."""
    return int(answer.split(b" ", 2)[1])


def settings(home: Path, **changes: Any) -> ServerSettings:
    given = Settings.from_env({"GPUX_HOME": str(home), "HF_HOME": str(home / "hf")})
    return ServerSettings(**{"port": 0, "gpux": given, "access_log": None, **changes})


@contextmanager
def local(given: ServerSettings) -> Iterator[Local]:
    """A running server; ended at the end of the block."""
    app = create_app(given)
    config = uvicorn.Config(
        app, host=given.host, port=0, log_config=None, server_header=False, **uvicorn_arguments(given)
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        yield Local(app, server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()
