"""A server that answers as a test says, byte for byte."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Request:
    """What a client sent."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Canned:
    """Answers by path.

    Args:
        answers: ``POST /path`` -> the answers of its requests in their order, the last one again; parts of an answer
            are sent apart. ``None`` as a part: nothing more is sent, and the connection stays open.
    """

    answers: dict[str, list[list[bytes | None]]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    url: str = ""

    def answer(self, request: str, *parts: bytes | None) -> None:
        """Add an answer."""
        self.answers.setdefault(request, []).append(list(parts))

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Canned]:
        """Listen while the block runs."""
        connections: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            connections.add(task)
            try:
                await self._serve(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            finally:
                connections.discard(task)
                writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 24, ssl=tls)
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in connections:
                task.cancel()
            await asyncio.gather(*connections)
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in head[1:] if one)}
        data = await reader.readexactly(int(headers.get("content-length", 0)))
        self.requests.append(Request(method, path, headers, json.loads(data) if data else None))
        answers = self.answers[f"{method} {path}"]
        for part in answers.pop(0) if len(answers) > 1 else answers[0]:
            if part is None:
                await asyncio.Event().wait()
                return
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.001)


def response(body: bytes | Any, status: int = 200, **headers: str) -> bytes:
    """A whole answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"content-type": "application/json", "content-length": str(len(data)), "connection": "close", **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items())
    return f"HTTP/1.1 {status} Status\r\n{lines}\r\n".encode() + data


def head(media: str = "text/event-stream") -> bytes:
    """The head of an answer that ends with its connection."""
    return f"HTTP/1.1 200 OK\r\ncontent-type: {media}\r\nconnection: close\r\n\r\n".encode()


def chunked(*parts: bytes) -> bytes:
    """A stream without its end."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n" + b"".join(
        b"%x\r\n%s\r\n" % (len(part), part) for part in parts
    )


def event(document: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(document, ensure_ascii=False).encode() + b"\n\n"


def chunk(text: str | None = None, reason: str | None = None, **delta: Any) -> bytes:
    """An event with a piece of a chat."""
    given = {"content": text, **delta} if text is not None or delta else {}
    return event({"id": "1", "choices": [{"index": 0, "delta": given, "finish_reason": reason}]})


DONE = b"data: [DONE]\n\n"
