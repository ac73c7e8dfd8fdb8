"""Streams and clients that leave: nothing keeps running for them."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from starlette.responses import Response

from gpux.errors import BusyError, GpuxError
from gpux.server.api import endpoint
from gpux.server.api.endpoint import Api, Call, Endpoint
from gpux.server.api.session import error_body
from gpux.server.http import Stream, event, event_stream, json_response, line, line_stream, until_disconnected
from tests.server.running import WRITER
from tests.server.security.serving import Local, local, settings
from tests.waiting import wait_until

CHAT = "/v1/chat/completions"


class Log:
    """What generators and waiting work have noted."""

    closed = 0
    cancelled = 0
    ended = 0


def _error(error: GpuxError) -> bytes:
    return event({"error": error.code})


async def _endless(pause: float) -> AsyncIterator[bytes]:
    try:
        async with asyncio.timeout(60):  # works only where one task iterates
            while True:
                yield event("x" * 30_000)
                await asyncio.sleep(pause)
    finally:
        Log.closed += 1


async def _failing(kind: type[Exception]) -> AsyncIterator[bytes]:
    yield event("first")
    raise kind("SECRET", hint="later") if issubclass(kind, GpuxError) else kind("SECRET")


async def _lines() -> AsyncIterator[bytes]:
    for number in range(3):
        yield line({"number": number})
        await asyncio.sleep(0.3)


async def _sleep() -> str:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        Log.cancelled += 1
        raise
    return "slept"


async def streams(call: Call) -> Response:
    """A stream of the kind that the path names."""
    kind = call.path["kind"]
    if kind == "sleep":
        return json_response(await until_disconnected(call.request, _sleep()))
    if kind == "busy":
        return json_response(await until_disconnected(call.request, _busy()))
    if kind == "quick":
        return json_response(await until_disconnected(call.request, asyncio.sleep(0.05, "quick")))
    if kind == "lines":
        return _quick(line_stream(_lines()))
    if kind == "typed":
        return event_stream(_failing(BusyError), on_error=_error)
    if kind == "unexpected":
        return event_stream(_failing(ValueError), on_error=_error)
    if kind == "unhandled":
        return event_stream(_failing(ValueError))
    return _quick(event_stream(_endless(0.001 if kind == "fast" else 5.0), _count_end))


async def _busy() -> str:
    await asyncio.sleep(0)
    raise BusyError("full", retry_after=7)


def _count_end() -> None:
    Log.ended += 1


def _quick(stream: Stream) -> Stream:
    stream.interval = 0.1
    return stream


@pytest.fixture(scope="module")
def streaming(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """A server with these streams, which gives up a client that reads nothing for a second."""
    api = Api(
        "streams",
        "/streams",
        (Endpoint("POST", "/streams/{kind}", streams, "infer"), Endpoint("GET", "/streams/{kind}", streams, "read")),
        error_body,
    )
    with local(settings(tmp_path_factory.mktemp("streams"), send_timeout=1.0)) as server:
        server.app.router.routes.extend(endpoint.routes(api, server.core))
        yield server


def opened(server: Local, path: str, method: str = "GET", body: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60.0)
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
    return connection


def test_a_quiet_stream_is_kept_open_by_comments(streaming: Local) -> None:
    with opened(streaming, "/streams/quiet") as connection:
        seen = b""
        while seen.count(b": keep-alive\n\n") < 2:
            seen += connection.recv(65536)
    head = seen.partition(b"\r\n\r\n")[0].lower()
    assert b"content-type: text/event-stream" in head
    assert b"x-accel-buffering: no" in head and b"cache-control: no-cache" in head
    assert b"content-encoding" not in head and b"content-length" not in head


def test_lines_have_no_blank_ones_between(streaming: Local) -> None:
    answer = streaming.request("GET", "/streams/lines")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(one)["number"] for one in answer.text.split("\n")[:-1]] == [0, 1, 2]


@pytest.mark.parametrize("kind", ["quiet", "fast"])
def test_the_generator_is_closed_when_the_client_leaves(streaming: Local, kind: str) -> None:
    closed, ended = Log.closed, Log.ended
    with opened(streaming, f"/streams/{kind}") as connection:
        connection.recv(100)
    wait_until(lambda: (Log.closed, Log.ended) == (closed + 1, ended + 1))


def test_a_client_that_does_not_read_is_given_up(streaming: Local) -> None:
    closed = Log.closed
    with opened(streaming, "/streams/fast"):
        wait_until(lambda: Log.closed == closed + 1)


def test_an_error_after_the_first_byte_is_the_last_event(streaming: Local) -> None:
    for kind, code in (("typed", "busy"), ("unexpected", "run")):
        answer = streaming.request("GET", f"/streams/{kind}")
        assert answer.status_code == 200
        assert answer.text == f'data: "first"\n\ndata: {{"error":"{code}"}}\n\n'


def test_a_stream_that_fails_unexpectedly_does_not_look_complete(streaming: Local) -> None:
    with opened(streaming, "/streams/unhandled") as connection:
        seen = b""
        while part := connection.recv(65536):
            seen += part
    assert b"first" in seen and not seen.endswith(b"0\r\n\r\n") and b"SECRET" not in seen


def test_work_is_cancelled_when_its_client_leaves(streaming: Local) -> None:
    cancelled = Log.cancelled
    with opened(streaming, "/streams/sleep", "POST", b"{}"):
        time.sleep(0.2)
        assert Log.cancelled == cancelled
    wait_until(lambda: Log.cancelled == cancelled + 1)


def test_errors_of_work_stay_typed(streaming: Local) -> None:
    answer = streaming.request("POST", "/streams/busy", content=b"{}")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.json()["error"]["code"] == "busy"


def test_requests_that_are_sent_without_waiting_are_all_answered(streaming: Local) -> None:
    """Of several requests sent at once, watching for the client's leaving must not take the later ones."""
    one = b"POST /streams/quick HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
    last = b"GET /streams/lines HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = streaming.raw(one * 3 + last, end=False)
    assert answer.count(b"HTTP/1.1 200 ") == 4
    assert answer.count(b'"quick"') == 3 and b'{"number":2}' in answer


def test_requests_of_a_worker_end_with_their_clients(filled_home: Path) -> None:
    with local(settings(filled_home)) as server:
        body = {"model": WRITER, "messages": [{"role": "user", "content": "abc"}], "max_tokens": 400}
        assert server.request("POST", CHAT, json={**body, "max_tokens": 1}).status_code == 200
        (loaded,) = server.core.models.loaded()
        for stream in (True, False):
            sent = json.dumps({**body, "stream": stream}).encode()
            connections = [opened(server, CHAT, "POST", sent) for _ in range(3)]
            if stream:
                for connection in connections:
                    assert connection.recv(1000).startswith(b"HTTP/1.1 200")
            for connection in connections:
                connection.close()
            wait_until(lambda: loaded.worker.requests == 0 and loaded.answering == 0)
        assert server.request("POST", CHAT, json={**body, "max_tokens": 2}).status_code == 200
