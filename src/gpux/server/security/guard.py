"""What every request has to pass before it is routed, and what every response carries; a plain ASGI middleware.

A page in a browser can send requests to this machine. ``Host`` is checked because a name of that page's owner may
resolve to this machine (DNS rebinding), ``Origin`` and ``Sec-Fetch-Site`` because another page may send a request
without reading the answer. Only values of the ASGI scope decide, so that what is checked is what is routed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpux.errors import (
    ForbiddenError,
    GpuxError,
    MediaTypeError,
    RunError,
    SlowClientError,
    TooLargeError,
    UsageError,
)
from gpux.server.security.hosts import Authority, Hosts, Origin, is_loopback, own_origin, parse_origin
from gpux.server.settings import ServerSettings

log = logging.getLogger(__name__)

#: Key of the scope: whether a page of another origin, which the settings allow, sent the request.
FOREIGN = "gpux.foreign_origin"
#: (path, error) -> the response in the shape of the path's API
Refuse = Callable[[str, GpuxError], Response]
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
_REQUEST_HEADERS = ("authorization", "content-type", "x-api-key")  #: and ``x-stainless-*``, of OpenAI's clients
_MOST_REQUEST_HEADERS = 50
_METHODS = b"GET, POST, PUT, DELETE"
_EXPOSED = b"retry-after, retry-after-ms, x-gpux-fallback, x-gpux-model, x-gpux-provider, x-request-id, x-should-retry"
_PREFLIGHT_SECONDS = b"600"


class Guard:
    """The middleware.

    Args:
        app: what it protects.
        settings: of the server.
        refuse: shapes the errors.

    Raises:
        UsageError: an allowed host or origin is invalid.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings, refuse: Refuse) -> None:
        self._app, self._settings, self._refuse = app, settings, refuse
        self._hosts = Hosts(settings.allowed_hosts, settings.allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(send, self._settings.send_timeout)
        try:
            preflight = self._check(scope, exchange)
            if preflight is not None:
                await preflight(scope, receive, exchange.send)
                return
            await self._app(scope, _Body(scope, receive, self._settings).receive, exchange.send)
        except GpuxError as error:
            await exchange.refuse(scope, receive, self._refuse(scope["path"], error))
        except ClientDisconnect:
            return  # with the response incomplete, the server closes the connection
        except Exception:
            log.exception("%s %r failed", scope["method"], scope["path"])
            failed = RunError("the server failed to answer", hint="Its log has the reason.")
            await exchange.refuse(scope, receive, self._refuse(scope["path"], failed))

    def _check(self, scope: Scope, exchange: _Exchange) -> Response | None:
        """The response of a preflight request; None for every other request that may pass.

        Raises:
            GpuxError: the request is refused.
        """
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        self._check_connection(scope)
        host = self._hosts.check_host(_values(headers, b"host"))
        origin = self._check_origin(scope, headers, host)
        if origin is not None:
            exchange.origin = origin
        if scope["method"] == "OPTIONS" and origin is not None and _values(headers, b"access-control-request-method"):
            return _preflight(headers)
        encodings = {value.strip().lower() for value in _values(headers, b"content-encoding")}
        if encodings - {b"", b"identity"}:
            raise MediaTypeError("compressed bodies are not read", hint="Send the body without Content-Encoding.")
        return None

    def _check_connection(self, scope: Scope) -> None:
        """Without keys, only this machine is served, however the application was started."""
        if self._settings.api_keys is not None:
            return
        server = scope.get("server")
        # Port None: a socket of the file system, which its mode protects.
        if server is None or (server[1] is not None and not is_loopback(server[0])):
            raise ForbiddenError(
                "without keys, this server answers on loopback addresses only",
                hint="Create a key with `gpux keys create NAME`, and start the server with its file.",
            )

    def _check_origin(self, scope: Scope, headers: list[tuple[bytes, bytes]], host: Authority) -> bytes | None:
        """The value of ``Origin``, if there is one and it may use the server.

        Raises:
            ForbiddenError: it may not.
        """
        values = _values(headers, b"origin")
        listed = False
        if values:
            origin: Origin | None = parse_origin(values[0].decode("latin-1")) if len(values) == 1 else None
            listed = origin is not None and self._hosts.listed(origin)
            if origin is None or not (listed or origin == own_origin(scope["scheme"], host)):
                raise ForbiddenError(
                    "pages of this origin may not use the server",
                    hint="Start it with the origin of the page as an allowed origin.",
                )
        if scope["method"] not in _SAFE and not listed and b"cross-site" in _values(headers, b"sec-fetch-site"):
            raise ForbiddenError("a page of another site sent this request", hint="Send it from the server's own page.")
        scope[FOREIGN] = listed
        return values[0] if values else None


class _Exchange:
    """The response of one request: its headers are added, and a client that does not read is given up."""

    def __init__(self, send: Send, timeout: float) -> None:
        self._send, self._timeout = send, timeout
        self.origin: bytes | None = None  #: that may read the response
        self.started = False

    async def send(self, message: Message) -> None:
        """Send a message of the response.

        Raises:
            ClientDisconnect: the client has not read for the time that the settings allow.
        """
        if message["type"] == "http.response.start":
            self.started = True
            message = {**message, "headers": self._headers(message.get("headers", ()))}
        try:
            async with asyncio.timeout(self._timeout):
                await self._send(message)
        except TimeoutError:
            raise ClientDisconnect from None

    async def refuse(self, scope: Scope, receive: Receive, response: Response) -> None:
        """Send an error, unless the response has begun."""
        if not self.started:
            await response(scope, receive, self.send)

    def _headers(self, given: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        headers = list(given)
        names = {name.lower() for name, _ in headers}
        headers += [(name, value) for name, value in _SECURITY if name not in names]
        if self.origin is not None:
            headers += [(b"access-control-allow-origin", self.origin), (b"access-control-expose-headers", _EXPOSED)]
        return [*headers, (b"vary", b"origin")]


class _Body:
    """The body of one request, whose size and time are limited while it is read."""

    def __init__(self, scope: Scope, receive: Receive, settings: ServerSettings) -> None:
        self._receive, self._settings = receive, settings
        self._length = _length(_values(scope["headers"], b"content-length"))
        self._size = 0
        self._complete = False
        self._ends: float | None = None

    async def receive(self) -> Message:
        """The next message.

        Raises:
            TooLargeError: the body is larger than ``max_body``.
            SlowClientError: it does not arrive in time.
        """
        if self._complete:
            return await self._receive()
        limit = self._settings.max_body
        if self._length > limit:
            raise _too_large(limit)
        loop = asyncio.get_running_loop()
        if self._ends is None:
            self._ends = loop.time() + self._settings.body_timeout
        try:
            async with asyncio.timeout_at(self._ends):
                message = await self._receive()
        except TimeoutError:
            raise SlowClientError("the body did not arrive in time", hint="Send the request again.") from None
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            if self._size > limit:
                raise _too_large(limit)
        else:
            self._complete = True
        return message


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"the body is larger than {limit} bytes", hint="Send fewer inputs at once.", limit=limit)


def _length(values: list[bytes]) -> int:
    try:
        return max((int(value) for value in values), default=0)
    except ValueError:
        raise UsageError("the Content-Length header is invalid") from None


def _values(headers: list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for key, value in headers if key == name]


def _preflight(headers: list[tuple[bytes, bytes]]) -> Response:
    """The answer to a browser that is about to send a request of an allowed page; there are no wildcards."""
    wanted = b",".join(_values(headers, b"access-control-request-headers")).decode("latin-1").lower()
    names = [name.strip() for name in wanted.split(",")[:_MOST_REQUEST_HEADERS]]
    allowed = [name for name in names if name in _REQUEST_HEADERS or _is_stainless(name)]
    response = Response(status_code=204)
    response.raw_headers = [
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", ", ".join(allowed).encode("latin-1")),
        (b"access-control-max-age", _PREFLIGHT_SECONDS),
    ]
    if _values(headers, b"access-control-request-private-network") == [b"true"]:
        response.raw_headers.append((b"access-control-allow-private-network", b"true"))
    return response


def _is_stainless(name: str) -> bool:
    rest = name.removeprefix("x-stainless-")
    return rest != name and rest.replace("-", "").isalnum() and rest.isascii()
