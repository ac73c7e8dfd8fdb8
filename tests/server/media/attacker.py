"""A server on loopback that answers as an attacker's would, for tests of what is fetched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

PICTURE = b"\x89PNG of a kind"
PLAIN = "HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n"


@dataclass
class Attacker:
    """What the server answers at each path, and what it was sent."""

    port: int = 0
    answers: dict[str, Callable[[asyncio.StreamWriter], object]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)  #: heads

    def at(self, path: str, host: str = "media.example.com") -> str:
        """The address of a path."""
        return f"http://{host}:{self.port}{path}"

    def answer(self, path: str, head: str = PLAIN, body: bytes = PICTURE) -> str:
        """Answer a path with a head and a body; returns its address."""
        whole = f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body
        self.answers[path] = lambda writer: writer.write(whole)
        return self.at(path)

    def redirect(self, path: str, location: str) -> str:
        """Answer a path with a redirect; returns its address."""
        return self.answer(path, f"HTTP/1.1 302 Found\r\nlocation: {location}\r\n", b"")


@asynccontextmanager
async def attacking() -> AsyncIterator[Attacker]:
    """A running server."""
    found = Attacker()
    writers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        found.requests.append(head)
        answer = found.answers.get(head.split(" ")[1])
        if answer is not None:
            result = answer(writer)
            if asyncio.iscoroutine(result):
                await result
            await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        for writer in writers:
            writer.close()
        server.close()
        await server.wait_closed()
