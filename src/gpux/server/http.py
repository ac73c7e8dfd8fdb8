"""Bodies of requests and responses: JSON with typed errors, and streams of events."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gpux.errors import ForbiddenError, GpuxError, MediaTypeError, RunError, UsageError
from gpux.server.security.guard import FOREIGN
from gpux.server.settings import ServerSettings

log = logging.getLogger(__name__)
T = TypeVar("T")
#: Levels of JSON at most.
DEEPEST = 100
#: Arrays and objects of a body at most.
MOST_NESTED = 200_000
#: Parts of a form that are not files, and the bytes of one.
MOST_FIELDS = 64
LARGEST_FIELD = 1 << 20
#: A string, also one that does not end, so that no start is tried twice.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_FIELD = re.compile(r"Object (?:contains unknown|missing required) field `(.*)`$")


async def read_body(request: Request, settings: ServerSettings) -> bytes:
    """The whole body.

    Raises:
        TooLargeError: it is larger than ``max_body``.
        SlowClientError: it does not arrive in time.
    """
    body = bytearray()
    async for part in request.stream():  # the guard has limited it: see gpux.server.security.guard
        body += part
    return bytes(body)


async def read_json(request: Request, kind: type[T], settings: ServerSettings, *, empty: T | None = None) -> T:
    """The body as a value of a type.

    Args:
        request: whose body is not read yet.
        kind: the type.
        settings: of the server.
        empty: the value of an empty body; None: it is an error.

    Raises:
        UsageError: it is not JSON, or a field is missing, unknown or of another type; ``param`` names the field.
        MediaTypeError: it is of another type than JSON.
        TooLargeError, SlowClientError: see :func:`read_body`.
    """
    check_json_type(request)
    body = await read_body(request, settings)
    return empty if empty is not None and not body else decode_json(body, kind)


def check_json_type(request: Request) -> None:
    """Refuse bodies that a page of another site could send without asking first.

    ``application/json`` is what pages can only send after a preflight request. No type, and the one of forms, which
    ``curl -d`` sends, are accepted from clients that are no browsers.

    Raises:
        MediaTypeError: the body is of another type.
    """
    kind, _, parameters = ",".join(request.headers.getlist("content-type")).lower().partition(";")
    kind = kind.strip()
    browser = "origin" in request.headers or any(name.startswith("sec-fetch-") for name in request.headers)
    if kind == "application/json":
        charset = parameters.partition("charset=")[2].partition(";")[0].strip(' "')
        if charset not in ("", "utf-8", "utf8"):
            raise MediaTypeError(f"JSON in {charset} is not read", hint="Send it in UTF-8.")
    elif browser or kind not in ("", "application/x-www-form-urlencoded"):
        raise MediaTypeError(
            f"a body of the type {kind or 'none'} is not read", hint="Send JSON with Content-Type: application/json."
        )


#: Types that clients send for any body, since they set none themselves.
_UNKNOWN_TYPES = ("", "application/x-www-form-urlencoded", "application/octet-stream")


async def read_content(request: Request, settings: ServerSettings) -> tuple[bytes, bool]:
    """A body that is JSON or the content of a file, and whether it is JSON.

    A body whose type says nothing is JSON if it begins with a brace or bracket, as no picture, sound or video does.

    Raises:
        MediaTypeError: it is a form.
        ForbiddenError: a page of another origin sent a file, and no key is needed: browsers ask no permission for a
            body without a type.
        TooLargeError, SlowClientError: see :func:`read_body`.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        check_json_type(request)
        return await read_body(request, settings), True
    if kind.startswith(("multipart/", "text/")):
        raise MediaTypeError(
            f"a body of the type {kind} is not read",
            hint="Send JSON, or the content of a picture or sound with its own type.",
        )
    if request.scope.get(FOREIGN) and settings.api_keys is None:
        raise ForbiddenError("pages of other origins can send JSON only", hint="Start the server with keys.")
    body = await read_body(request, settings)
    return body, kind in _UNKNOWN_TYPES and body.lstrip()[:1] in (b"{", b"[")


def decode_json(body: bytes, kind: type[T]) -> T:
    """See :func:`read_json`. Of keys that occur twice, the last one counts."""
    check_depth(body)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"invalid request: {error}", param=_param(str(error))) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError("the body is not valid JSON", hint="Send a JSON object.") from error


def convert(value: Any, kind: type[T], place: str) -> T:
    """A decoded part of a body as a value of a type.

    Args:
        value: of JSON.
        kind: the type.
        place: of the value in the body: ``input[0]``.

    Raises:
        UsageError: a field is missing, unknown or of another type; ``param`` names it.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        field = _param(str(error))
        param = place if field is None else f"{place}{'' if field.startswith('[') else '.'}{field}"
        raise UsageError(f"invalid request: {error}".replace("`$", f"`$.{place}"), param=param) from error


def check_depth(body: bytes) -> None:
    """Refuse JSON whose values are nested deeper than :data:`DEEPEST`, without a loop over its characters.

    Raises:
        UsageError: it is, or it has more than :data:`MOST_NESTED` arrays and objects.
    """
    if body.count(b"[") + body.count(b"{") <= DEEPEST:
        return
    brackets = _STRINGS.sub(b"", body).translate(None, _NOT_BRACKETS)
    if len(brackets) > 2 * MOST_NESTED:
        raise UsageError(f"the body has more than {MOST_NESTED} arrays and objects", hint="Send fewer inputs at once.")
    brackets = brackets.translate(_ONE_KIND)
    # Each round removes the innermost level. Brackets without a partner stay.
    for _ in range(DEEPEST):
        inner = brackets.replace(b"[]", b"")
        if len(inner) == len(brackets):
            break
        brackets = inner
    if brackets:
        raise UsageError(
            f"the body is not valid JSON, or nested deeper than {DEEPEST} levels", hint="Send a flat JSON object."
        )


def convert_fields(fields: Mapping[str, Any], kind: type[T]) -> T:
    """The fields of a form as a value of a type; texts are read as the numbers and booleans that it has.

    Raises:
        UsageError: see :func:`read_json`.
    """
    try:
        return msgspec.convert(dict(fields), kind, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"invalid request: {error}", param=_param(str(error))) from error


def _param(message: str) -> str | None:
    """The field that a message of msgspec is about: ``messages[0].role``; None: the whole body."""
    problem, _, place = message.partition(" - at `$")
    field = _FIELD.match(problem)
    return (place.rstrip("`") + (f".{field[1]}" if field else "")).lstrip(".") or None


def json_response(value: Any, status: int = 200) -> Response:
    """A value as JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


OnError = Callable[[GpuxError], bytes]


def event_stream(
    events: AsyncIterator[bytes], ended: Callable[[], None] | None = None, *, on_error: OnError | None = None
) -> Stream:
    """Server-sent events, not buffered by proxies, with comments that keep the connection open.

    Args:
        events: each as :func:`event` returns it. The iterator is closed when the client leaves.
        ended: called when the response has ended, also when the client left before its end.
        on_error: the event for an error that ``events`` raised; without it, the connection is closed.
    """
    return Stream(events, "text/event-stream", ended, on_error, keep_alive=b": keep-alive\n\n")


def line_stream(
    lines: AsyncIterator[bytes], ended: Callable[[], None] | None = None, *, on_error: OnError | None = None
) -> Stream:
    """One JSON value a line, each as :func:`line` returns it; without blank lines, as clients decode each line.

    Args:
        lines, ended, on_error: see :func:`event_stream`.
    """
    return Stream(lines, "application/x-ndjson", ended, on_error)


class Stream(Response):
    """A response whose parts are sent as they come.

    The parts are iterated in one task, so that time limits within the iterator work; it is cancelled, and the iterator
    closed, when the client leaves or the server ends the request.
    """

    interval = 15.0  #: seconds without a part until ``keep_alive`` is sent

    def __init__(
        self,
        parts: AsyncIterator[bytes],
        media_type: str,
        ended: Callable[[], None] | None = None,
        on_error: OnError | None = None,
        *,
        keep_alive: bytes | None = None,
    ) -> None:
        self._parts, self._ended, self._on_error, self._keep_alive = parts, ended, on_error, keep_alive
        self.status_code, self.background = 200, None
        self.init_headers({"content-type": media_type, "cache-control": "no-cache", "x-accel-buffering": "no"})
        self._sending = asyncio.Lock()
        self._sent = 0.0

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Without ``content-length``."""
        self.raw_headers = [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        pump = asyncio.create_task(self._pump(send))
        gone = asyncio.create_task(_disconnected(receive))
        try:
            while not pump.done() and not gone.done():
                await asyncio.wait({pump, gone}, timeout=self.interval, return_when=asyncio.FIRST_COMPLETED)
                if not pump.done() and not gone.done():
                    await self._keep_open(send)
            if pump.done():
                await pump
        finally:
            for task in (pump, gone):
                task.cancel()
            await asyncio.gather(pump, gone, return_exceptions=True)
            if self._ended is not None:
                self._ended()

    async def _keep_open(self, send: Send) -> None:
        if self._keep_alive is not None and asyncio.get_running_loop().time() - self._sent >= self.interval:
            await self._write(send, self._keep_alive)

    async def _pump(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async with _closing(self._parts) as parts:
                async for part in parts:
                    await self._write(send, part)
        except GpuxError as error:
            if self._on_error is None:
                raise
            await self._write(send, self._on_error(error))
        except (ClientDisconnect, OSError):
            raise
        except Exception:
            if self._on_error is None:
                raise
            log.exception("a response ended early")
            await self._write(send, self._on_error(RunError("the server failed to answer")))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, send: Send, part: bytes) -> None:
        async with self._sending:
            await send({"type": "http.response.body", "body": part, "more_body": True})
            self._sent = asyncio.get_running_loop().time()


@asynccontextmanager
async def _closing(parts: AsyncIterator[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    try:
        yield parts
    finally:
        if isinstance(parts, AsyncGenerator):
            await parts.aclose()


def event(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def line(value: Any) -> bytes:
    """One line of newline-delimited JSON."""
    return msgspec.json.encode(value) + b"\n"


async def until_disconnected(request: Request, work: Awaitable[T]) -> T:
    """The result of ``work``, which is cancelled when the client leaves.

    What the client sends after this request is left to the server: only the rest of this request's body is read.

    Raises:
        ClientDisconnect: the client has left.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request.receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        for one in (task, gone):
            one.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    """Return when the client has left, or does not send the rest of its body as it should."""
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    except GpuxError:
        return


@dataclass(frozen=True)
class FormFile:
    """A file of a form."""

    field: str
    name: str  #: as the client named it, without folders; for messages, never a path
    media_type: str | None
    data: bytes


@dataclass(frozen=True)
class Form:
    """The parts of a form."""

    fields: Mapping[str, Sequence[str]]
    files: Sequence[FormFile]

    def field(self, name: str) -> str | None:
        """The value of a field that may occur once.

        Raises:
            UsageError: it occurs more than once.
        """
        values = self.fields.get(name, ())
        if len(values) > 1:
            raise UsageError(f"the field {name} occurs {len(values)} times", param=name)
        return values[0] if values else None


def is_form(request: Request) -> bool:
    """Whether the body is of the type ``multipart/form-data``."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == "multipart/form-data"


async def read_form(request: Request, settings: ServerSettings) -> Form:
    """The parts of a body of the type ``multipart/form-data``.

    Raises:
        MediaTypeError: it is of another type.
        ForbiddenError: a page of another origin sent it, and no key is needed: forms are sent without a preflight.
        UsageError: it is not a form, or has too many parts.
        TooLargeError, SlowClientError: see :func:`read_body`.
    """
    if not is_form(request):
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        raise MediaTypeError(f"a body of the type {kind or 'none'} is not read", hint="Send multipart/form-data.")
    if request.scope.get(FOREIGN) and settings.api_keys is None:
        raise ForbiddenError("pages of other origins cannot send forms", hint="Start the server with keys.")
    try:
        async with request.form(
            max_files=min(settings.max_inputs, settings.max_files), max_fields=MOST_FIELDS, max_part_size=LARGEST_FIELD
        ) as form:
            fields: dict[str, list[str]] = {}
            files = []
            for name, value in form.multi_items():
                if isinstance(value, str):
                    fields.setdefault(name, []).append(value)
                else:
                    data = await value.read()
                    files.append(FormFile(name, _file_name(value.filename), value.content_type, data))
    except HTTPException as error:  # of starlette's parser; its text is not for clients
        raise UsageError("the body is not a form, or has too many parts", hint="Send fewer parts at once.") from error
    return Form(fields, files)


def _file_name(given: str | None) -> str:
    last = (given or "").replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in last if letter.isprintable())[:100]
