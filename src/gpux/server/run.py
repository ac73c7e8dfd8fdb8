"""Runs the application with uvicorn until it is stopped."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn

from gpux.server.app import create_app
from gpux.server.logs import configure
from gpux.server.security.connections import uvicorn_arguments
from gpux.server.security.hosts import check_bind
from gpux.server.settings import ServerSettings


def serve(settings: ServerSettings, on_start: Callable[[str], None] | None = None) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        settings: of the server.
        on_start: called with the server's address, such as ``http://127.0.0.1:5000``, when it accepts requests.
    """
    check_bind(settings)
    configure(settings.access_log)
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        **uvicorn_arguments(settings),
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=int(settings.drain_timeout),
    )
    _Server(config, on_start).run()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_start: Callable[[str], None] | None) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._on_start is not None:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._on_start(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
