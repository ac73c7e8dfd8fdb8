"""Bodies of requests and responses: JSON with typed errors, and streams of events."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from gpux.errors import InputError, TooLargeError, UsageError
from gpux.server.settings import ServerSettings

T = TypeVar("T")
_FIELD = re.compile(r"Object (?:contains unknown|missing required) field `(.*)`$")


async def read_body(request: Request, settings: ServerSettings) -> bytes:
    """The whole body.

    Raises:
        TooLargeError: it is larger than ``max_body``.
        InputError: it does not arrive in time.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(settings.body_timeout):
            async for part in request.stream():
                body += part
                if len(body) > settings.max_body:
                    raise TooLargeError(
                        f"the body is larger than {settings.max_body} bytes", hint="Send fewer inputs at once."
                    )
    except TimeoutError:
        raise InputError("the body did not arrive in time", hint="Send the request again.") from None
    return bytes(body)


async def read_json(request: Request, kind: type[T], settings: ServerSettings) -> T:
    """The body as a value of a type.

    Raises:
        UsageError: it is not JSON, or a field is missing, unknown or of another type; ``param`` names the field.
        TooLargeError: see :func:`read_body`.
    """
    return decode_json(await read_body(request, settings), kind)


def decode_json(body: bytes, kind: type[T]) -> T:
    """See :func:`read_json`."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"invalid request: {error}", param=_param(str(error))) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError("the body is not valid JSON", hint="Send a JSON object.") from error


def _param(message: str) -> str | None:
    """The field that a message of msgspec is about: ``messages[0].role``; None: the whole body."""
    problem, _, place = message.partition(" - at `$")
    field = _FIELD.match(problem)
    return (place.rstrip("`") + (f".{field[1]}" if field else "")).lstrip(".") or None


def json_response(value: Any, status: int = 200) -> Response:
    """A value as JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def event_stream(events: AsyncIterator[bytes], ended: Callable[[], None] | None = None) -> StreamingResponse:
    """Server-sent events, not buffered by proxies.

    Args:
        events: each as :func:`event` returns it.
        ended: called when the response has ended, also when the client left before its end.
    """
    headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    return _Stream(events, ended, media_type="text/event-stream", headers=headers)


class _Stream(StreamingResponse):
    def __init__(self, parts: AsyncIterator[bytes], ended: Callable[[], None] | None, **arguments: Any) -> None:
        super().__init__(parts, **arguments)
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._ended is not None:
                self._ended()


def event(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


async def until_disconnected(request: Request, work: Awaitable[T]) -> T:
    """The result of ``work``, which is cancelled when the client leaves."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise asyncio.CancelledError
        return task.result()
    finally:
        for one in (task, gone):
            one.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
