"""Runs the application with uvicorn until it is stopped.

The first SIGINT, SIGTERM or SIGHUP drains: new requests are answered with 503, running ones end by themselves or, at
the deadline, with an error as their last event. A second signal ends the process and its workers at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import psutil
import uvicorn
from starlette.applications import Starlette

from gpux.model.units import format_bytes
from gpux.server.address import listen, url_of
from gpux.server.api.endpoint import stopping
from gpux.server.app import create_app
from gpux.server.core import Core
from gpux.server.events import Event
from gpux.server.logs import configure
from gpux.server.records import RecordFile
from gpux.server.security.connections import uvicorn_arguments
from gpux.server.security.hosts import check_bind
from gpux.server.settings import ServerSettings

log = logging.getLogger(__name__)
#: Seconds that responses have to write their last event after the deadline.
_LAST_EVENTS = 2.0
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name))


@dataclass(frozen=True)
class Callbacks:
    """What a caller of :func:`serve` is called with."""

    #: the server's address, such as ``http://127.0.0.1:5000``, when it accepts requests
    on_start: Callable[[str, Core], None] = lambda url, core: None
    #: the number of requests that still run, when the server begins to stop
    on_stop: Callable[[int], None] = lambda running: None


def serve(settings: ServerSettings, callbacks: Callbacks | None = None) -> None:
    """Serve until a signal ends it, or ``POST /gpux/v1/shutdown``; returns when all requests have ended.

    Raises:
        AddressError: the server cannot listen on its address.
        GpuxError: a model of the settings cannot be loaded.
        KeyboardInterrupt: a signal arrived before the server was ready.
    """
    check_bind(settings)
    configure(settings.access_log)
    app = create_app(settings)
    sockets = listen(settings.host, settings.port, settings.gpux)
    server = _Server(app, sockets, callbacks or Callbacks())
    try:
        with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
            runner.run(server.serve(sockets))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        server.forget()
        for one in sockets:
            one.close()


class _Server(uvicorn.Server):
    """uvicorn with this drain, and with errors of the application's start raised instead of logged."""

    def __init__(self, app: Starlette, sockets: list[socket.socket], callbacks: Callbacks) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            lifespan="off",
            **uvicorn_arguments(app.state.core.settings),
            timeout_graceful_shutdown=round(_LAST_EVENTS),
        )
        super().__init__(config)
        self._app, self._callbacks = app, callbacks
        self._core: Core = app.state.core
        self._url = url_of(sockets)
        self._main: asyncio.Task[Any] | None = None
        self._record: RecordFile | None = None
        self._deadline: float | None = None  #: of running requests, once the server stops
        self._announced = False
        self._cut = False  #: the deadline has passed

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the application, serve, close it."""
        self._main = asyncio.current_task()
        with self._signals():
            try:
                async with self._app.router.lifespan_context(self._app), _logged_events(self._core):
                    await self._serve(sockets)
            except BaseException:
                await self._core.close()
                raise

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept requests."""
        await super().startup(sockets)
        self._record = RecordFile(self._url, self._core.settings.gpux)
        self._record.write(self._core.models.open_folders())
        self._core.models.on_open = self._record.write
        self._callbacks.on_start(self._url, self._core)

    async def on_tick(self, counter: int) -> bool:
        """Whether the server may end: called ten times a second."""
        if self._deadline is None:
            return await super().on_tick(counter)
        running = len(self.server_state.tasks)
        if not self._announced:
            self._announced = True
            self._core.events.publish("draining")
            self._core.models.stop_accepting()
            with contextlib.suppress(OSError):  # the terminal was closed
                self._callbacks.on_stop(running)
        if running and time.monotonic() >= self._deadline:
            if self._cut:
                return time.monotonic() >= self._deadline + _LAST_EVENTS
            self._cut = True
            self._core.end_requests(stopping())
        return not running

    def forget(self) -> None:
        """Remove the record of this server."""
        if self._record is not None:
            self._record.remove()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        # A signal that the parent process ignores stays ignored: SIGHUP under nohup, SIGINT in the background of a
        # shell without job control.
        mine = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._on_signal) for number in mine}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._deadline is not None:
            self._end_now(number)
        self._core.draining = True
        self._deadline = time.monotonic() + self._core.settings.drain_timeout
        if not self.started and self._main is not None:
            self._main.get_loop().call_soon_threadsafe(self._main.cancel)

    def _end_now(self, number: int) -> None:
        """End the workers and this process, without waiting for anything."""
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    child.kill()
        self.forget()
        with contextlib.suppress(OSError):
            os.write(2, b"\n" if sys.stderr is not None and sys.stderr.isatty() else b"")
        os._exit(128 + number)


@contextlib.asynccontextmanager
async def _logged_events(core: Core) -> AsyncIterator[None]:
    """Write what happens to models into the log."""

    async def follow() -> None:
        async with contextlib.aclosing(core.events.listen()) as events:
            async for one in events:
                if (line := _line(one)) is not None:
                    log.log(logging.ERROR if "error" in one.details else logging.INFO, "%s", line)

    task = asyncio.create_task(follow())
    await asyncio.sleep(0)  # it listens before the first event
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _line(event: Event) -> str | None:
    """The event as a sentence; None for one that says nothing new."""
    details = event.details
    because = f": {details['error']['message']}" if "error" in details else ""
    match event.kind:
        case "loaded":
            return f"{event.model} is loaded: {format_bytes(details['bytes'])}, {details['seconds']:.1f} s"
        case "load_failed":
            return f"{event.model} cannot be loaded{because}"
        case "unloaded" | "evicted":
            return f"{event.model} is {event.kind}"
        case "down":
            return f"{event.model} stays down{because}"
        case "pull_started":
            return f"{event.model} is pulled by job {details['job']}"
        case "pull_ended":
            return f"the pull of {event.model} has ended{because}"
    return None
