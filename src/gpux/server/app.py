"""The ASGI application: every API on one :class:`~gpux.server.core.Core`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from gpux.server.api import openai
from gpux.server.api.endpoint import Api, not_found, routes
from gpux.server.core import Core
from gpux.server.settings import ServerSettings

#: Every API; of two prefixes that match a path, the longer one shapes its errors.
APIS: tuple[Api, ...] = (openai.API,)


def create_app(settings: ServerSettings | None = None) -> Starlette:
    """The server as an ASGI application, for uvicorn or any other ASGI server.

    Args:
        settings: by default from the environment.
    """
    core = Core(settings or ServerSettings())

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await core.start()
        try:
            yield
        finally:
            await core.close()

    async def unknown(request: Request, error: Exception) -> Response:
        path = request.scope["path"]
        fitting = [api for api in APIS if path.startswith(api.prefix)]
        return not_found(max(fitting, key=lambda api: len(api.prefix), default=APIS[0]), path)

    app = Starlette(
        routes=[route for api in APIS for route in routes(api, core)],
        lifespan=lifespan,
        exception_handlers={404: unknown},
    )
    app.state.core = core
    return app
