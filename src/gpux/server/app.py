"""The ASGI application: every API on one :class:`~gpux.server.core.Core`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import cache

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from gpux.errors import GpuxError
from gpux.server.api import anthropic, huggingface, legacy, native, ollama, openai, rerank, session, system, tei
from gpux.server.api.endpoint import Api, method_not_allowed, not_found, routes
from gpux.server.core import Core
from gpux.server.metrics import Metrics, State
from gpux.server.middleware import Observed
from gpux.server.openapi import document
from gpux.server.parts import parts
from gpux.server.security.guard import Guard
from gpux.server.settings import ServerSettings
from gpux.server.stats import Stats

_OWN: tuple[Api, ...] = (
    openai.API,
    anthropic.API,
    ollama.API,
    legacy.API,
    native.API,
    session.API,
    system.API,
    huggingface.CHAT,
    huggingface.API,
    tei.API,
    rerank.API,
)


def apis(without: frozenset[str] = frozenset()) -> tuple[Api, ...]:
    """Every API; of two prefixes that match a path, the longer one shapes its errors.

    Args:
        without: names of parts whose APIs are left out.
    """
    return (*_OWN, *(api for part in parts(without) for api in part.apis))


#: Every API of a server with all parts.
APIS: tuple[Api, ...] = apis()


def api_of(path: str, among: Sequence[Api]) -> Api:
    """The API that shapes the errors of a path."""
    best = max(among, key=lambda api: api.match(path))
    return best if best.match(path) else system.API


def create_app(settings: ServerSettings | None = None) -> Starlette:
    """The server as an ASGI application, for uvicorn or any other ASGI server.

    Args:
        settings: by default from the environment.
    """
    settings = settings or ServerSettings()
    served = apis(settings.without)
    stats = Stats()
    metrics = Metrics(lambda: _states(core), stats)
    core = Core(settings, stats, metrics)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await core.start()
        try:
            yield
        finally:
            await core.close()

    async def unknown(request: Request, error: Exception) -> Response:
        path = request.scope["path"]
        return not_found(api_of(path, served), path)

    async def wrong_method(request: Request, error: Exception) -> Response:
        fitting = [
            one for one in app.routes if isinstance(one, Route) and one.matches(request.scope)[0] == Match.PARTIAL
        ]
        allow = ", ".join(sorted({method for one in fitting for method in one.methods or ()}))
        return method_not_allowed(api_of(request.scope["path"], served), request.method, allow)

    def respond(path: str, error: GpuxError) -> Response:
        return api_of(path, served).respond(error)

    app = Starlette(
        routes=[route for api in served for route in routes(api, core)],
        lifespan=lifespan,
        # The first one is the outermost: what the others refuse has an id, a line in the log and a count too.
        middleware=[
            Middleware(Observed, metrics=metrics, respond=respond),
            Middleware(Guard, settings=core.settings, refuse=respond),
        ],
        exception_handlers={404: unknown, 405: wrong_method},
    )
    app.router.redirect_slashes = False  # the address of a redirection would be made of the Host header
    Guard(app, core.settings, respond)  # an invalid setting is an error now, and not at the first request
    app.state.core = core
    app.state.metrics = metrics
    app.state.openapi = cache(lambda: msgspec.json.encode(document(served)))  # written at the first request for it
    return app


def _states(core: Core) -> Iterator[State]:
    pending = core.models.pending()
    for one in core.models.loaded():
        load = one.worker.load
        running = max(0, one.worker.requests - load.waiting)
        yield State(
            name=one.name,
            running=running,
            queued=max(0, pending.pop(one.name, 0) - running),
            rows=load.rows,
            cache_bytes=load.cache_bytes,
            memory_bytes=one.worker.memory_bytes(),
        )
    for name, queued in pending.items():  # models that are being loaded
        yield State(name=name, running=0, queued=queued, rows=0, cache_bytes=0, memory_bytes=0)
