"""``POST /api/stream-message``, also as ``/stream-message``: a message of a conversation, answered as events.

The events: ``session`` first, then one ``data: {"token": …}`` without a name for each piece of the answer, ``metadata``
where another model or less than the whole message is used, and ``end`` or ``error`` as the last one. Lines end with LF
alone: clients split the stream at blank lines themselves.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.responses import Response

from gpux.chat.codes import error_document
from gpux.chat.images import image
from gpux.chat.provider import checked_options, history
from gpux.chat.service import chat_of
from gpux.chat.streams import Asked, Ended, Failed, Notice, Session, Token
from gpux.chat.values import Image, Value
from gpux.errors import ConfigurationError, GpuxError, InputError, TooLargeError, UsageError
from gpux.server.api.endpoint import Api, Call, Endpoint
from gpux.server.http import Form, decode_json, event_stream, read_form, read_json, until_disconnected
from gpux.server.security.redaction import public
from gpux.server.settings import ServerSettings

#: Seconds that an answer may fail within, so that its error has an HTTP status; the stream begins after that.
BEGIN = 0.25


class HistoryMessage(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An earlier message."""

    role: str
    content: str


class StreamMessage(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a request; fields of a form have the same names, and JSON where they are no texts."""

    message: str
    model: str | None = None
    conversation_id: str | None = None
    conversation_history: list[HistoryMessage] | None = None
    options: dict[str, Any] | None = None
    password: str | None = None
    images: list[str] | None = None  #: base64 or data URLs; a form has files instead


async def stream_message(call: Call) -> Response:
    """Answer a message as a stream of events."""
    chat = await chat_of(call.core)
    session = await chat.sessions.begin(await _asked(call))
    streams = False
    try:
        await until_disconnected(call.request, session.opened(BEGIN))
        streams = True
    finally:
        if not streams:
            session.leave()
    response = event_stream(_events(session), session.leave, on_error=_error_event)
    for name, value in _headers(session).items():
        response.raw_headers.append((name, value.encode("ascii", "backslashreplace")))
    return response


async def _asked(call: Call) -> Asked:
    settings = call.core.settings
    if call.request.headers.get("content-type", "").lower().startswith("multipart/"):
        form = await read_form(call.request, settings)
        body, files = _body(form), [one.data for one in form.files]
    else:
        body = await read_json(call.request, StreamMessage, settings)
        files = [await call.core.media.read(one, "images") for one in body.images or ()]
    call.core.media.check_count(len(files), "images")
    _check_length(body, settings)
    given = body.conversation_history
    return Asked(
        message=body.message,
        model=body.model or None,
        conversation_id=body.conversation_id or None,
        history=None if given is None else history([msgspec.to_builtins(one) for one in given]),
        images=_images(files, settings),
        options=checked_options(body.options),
        password=body.password,
        owner=call.core.access.key_id(call.request),
    )


def _body(form: Form) -> StreamMessage:
    """The fields of a form.

    Raises:
        UsageError: one is unknown, occurs twice, or is not valid JSON.
    """
    values: dict[str, Any] = {}
    for name in form.fields:
        text = form.field(name) or ""
        if name in ("conversationHistory", "options"):
            try:
                values[name] = decode_json(text.encode("utf-8", "replace"), Any) if text else None
            except UsageError as error:
                raise UsageError(f"{name} is not valid JSON", hint=error.hint, param=name) from error
        else:
            values[name] = text
    for file in form.files:
        if file.field != "images":
            raise UsageError(f"the form has a file {file.field}", hint="Name files `images`.", param=file.field)
    if "images" in values:
        raise UsageError("images of a form are files", hint="Send them as files, or send JSON.", param="images")
    return decode_json(msgspec.json.encode(values), StreamMessage)


def _check_length(body: StreamMessage, settings: ServerSettings) -> None:
    """Refuse a text that is too long for the server.

    Raises:
        TooLargeError: it is.
        InputError: the message has a character that no database stores.
        UsageError: the message is empty, or there are too many earlier ones.
    """
    if "\0" in body.message:
        raise InputError("the message has the character U+0000", hint="Remove it from the message.", param="message")
    if not body.message.strip() and not body.images:
        raise UsageError("the message is empty", hint="Write something.", param="message")
    earlier = body.conversation_history or []
    for text in (body.message, *(one.content for one in earlier)):
        if len(text) > settings.max_text:
            raise TooLargeError(
                f"a text has {len(text)} characters, and the server takes {settings.max_text}",
                hint="Shorten it.",
                limit=settings.max_text,
            )
    if len(earlier) > settings.max_inputs:
        raise TooLargeError(
            f"the history has {len(earlier)} messages, and the server takes {settings.max_inputs}",
            hint="Leave out the oldest ones.",
            limit=settings.max_inputs,
        )


def _images(files: list[bytes], settings: ServerSettings) -> tuple[Image, ...]:
    for data in files:
        if len(data) > settings.max_media:
            raise TooLargeError(
                f"an image has more than {settings.max_media} bytes, the most that the server takes",
                hint="Make it smaller.",
                limit=settings.max_media,
            )
    return tuple(image(data, number) for number, data in enumerate(files))


# The events


async def _events(session: Session) -> AsyncGenerator[bytes]:
    begun = {
        "sessionId": session.id,
        "conversationId": session.conversation_id,
        "messageId": session.message_id,
        "model": session.model,
        "provider": session.provider,
    }
    yield _event("session", {name: value for name, value in begun.items() if value is not None})
    async with aclosing(session.events()) as events:
        async for one in events:
            match one:
                case Token(text):
                    yield b'data: {"token":' + msgspec.json.encode(text) + b"}\n\n"
                case Notice(metadata):
                    yield _event("metadata", metadata)
                case Ended(metadata, reason):
                    known = {} if metadata is None else msgspec.to_builtins(metadata)
                    yield _event("end", {**known, "finishReason": reason, "messageId": session.answer_id})
                case Failed(error):
                    yield _error_event(error)


def _event(name: str, data: Any) -> bytes:
    return b"event: " + name.encode("ascii") + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"


def _error_event(error: GpuxError) -> bytes:
    return _event("error", error_document(public(error)))


def _headers(session: Session) -> dict[bytes, str]:
    found = {b"x-gpux-model": session.model, b"x-gpux-provider": session.provider}
    if session.fallback is not None:
        found[b"x-gpux-fallback"] = " ".join(session.fallback.split())
    return found


# Errors


def error_body(error: GpuxError, status: int) -> Mapping[str, Any]:
    """As the data of an ``error`` event."""
    return error_document(error)


def status_of(error: GpuxError) -> int:
    """The HTTP status; an invalid configuration is not the client's fault."""
    return 503 if isinstance(error, ConfigurationError) else error.http_status


def _encoded(body: Mapping[str, Any]) -> bytes:
    return _event("error", body)


API = Api(
    "chat",
    "/api/stream-message",
    (
        Endpoint("POST", "/api/stream-message", stream_message, "infer", summary="Answer a message as events"),
        Endpoint("POST", "/stream-message", stream_message, "infer", summary="The same"),
    ),
    error_body,
    status_of,
    more_prefixes=("/stream-message",),
    error_type="text/event-stream",
    encode=_encoded,
)
