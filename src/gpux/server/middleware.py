"""The outermost layer of the application: ids of requests, their log, their metrics, and errors that nothing caught."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpux.errors import GpuxError, RunError
from gpux.server import context
from gpux.server.context import HEADER, Context
from gpux.server.logs import ACCESS
from gpux.server.metrics import Metrics

log = logging.getLogger(__name__)
access = logging.getLogger(ACCESS)
#: The status that the log and the metrics give to a request whose client left before it was answered.
CLIENT_LEFT = 499
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class Observed:
    """Pure ASGI, since a layer that buffers would hold back streams and hide disconnects.

    Args:
        app: the layers below.
        metrics: counts the requests.
        respond: (path, error) -> the response in the shape of the path's API.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, respond: Callable[[str, GpuxError], Response]) -> None:
        self._app, self._metrics, self._respond = app, metrics, respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Context(context.request_id(scope["headers"]), _method(scope))
        context.begin(request)
        status, sent = CLIENT_LEFT, 0

        async def observed(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [(name, value) for name, value in message.get("headers", ()) if name.lower() != HEADER]
                message = {**message, "headers": [*headers, (HEADER, request.id.encode("ascii"))]}
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
            await send(message)

        with self._metrics.request() as ended:
            try:
                await self._app(scope, receive, observed)
            except asyncio.CancelledError:
                status = CLIENT_LEFT
                raise
            except Exception:
                log.exception("the request failed")
                if status != CLIENT_LEFT:  # the response has begun: the server ends the connection
                    raise
                error = RunError("the server failed to answer", hint="Its log has the reason.")
                await self._respond(scope["path"], error)(scope, receive, observed)
            finally:
                _routed(scope, request)
                seconds = monotonic() - request.started
                ended(request, status, seconds)
                _write(scope, request, status, sent, seconds)


def _method(scope: Scope) -> str:
    """The method; what is no method of HTTP is one value, so that clients cannot add values of a label."""
    return scope["method"] if scope["method"] in METHODS else "OTHER"


def _routed(scope: Scope, request: Context) -> None:
    """Note the endpoint that the router chose, by the name that :func:`gpux.server.api.endpoint.routes` gave it."""
    route = scope.get("route")
    if route is not None:
        request.api, request.route = str(route.name).partition(" ")[0], route.path


def _write(scope: Scope, request: Context, status: int, sent: int, seconds: float) -> None:
    if not access.isEnabledFor(logging.INFO):
        return
    client = scope.get("client")
    fields = {
        "client": client[0] if client else None,
        "method": scope["method"],
        "path": scope["path"],
        "route": request.route,
        "api": request.api,
        "status": status,
        "bytes": sent,
        "seconds": round(seconds, 4),
        "model": request.model,
    }
    model = "" if request.model is None else f" {request.model}"
    access.info(
        "%s %s %s %d %d bytes %.3f s%s",
        fields["client"] or "-",
        scope["method"],
        scope["path"],
        status,
        sent,
        seconds,
        model,
        extra={"request": fields},
    )
