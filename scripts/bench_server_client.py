"""A light HTTP/1.1 client for measuring servers: raw sockets, one request at a time for each connection."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit


@dataclass
class Streamed:
    """Arrivals of a stream's texts, in seconds since the request."""

    texts: list[str] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    seconds: float = 0.0  #: until the end


class Connection:
    """One connection that is kept open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader, self._writer, self._host = reader, writer, host

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect to a server."""
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 24)
        return cls(reader, writer, parts.netloc)

    async def close(self) -> None:
        """End the connection."""
        self._writer.close()
        await self._writer.wait_closed()

    async def post(self, path: str, body: bytes, kind: str = "application/json") -> bytes:
        """The body of the response, not decoded; ``kind`` is the type of the request's body.

        Raises:
            RuntimeError: the status is not 200.
        """
        status, headers = await self._send(path, body, kind)
        data = await self._body(headers)
        if status != 200:
            raise RuntimeError(f"{status}: {data[:500]!r}")
        return data

    async def stream(self, path: str, body: dict[str, Any]) -> Streamed:
        """The texts of a stream of completions or of a chat.

        Raises:
            RuntimeError: the status is not 200, or the stream has an error.
        """
        began = time.perf_counter()
        status, headers = await self._send(path, encoded({**body, "stream": True}))
        if status != 200:
            raise RuntimeError(f"{status}: {(await self._body(headers))[:500]!r}")
        found, rest = Streamed(), b""
        async for part in self._parts():
            *events, rest = (rest + part).split(b"\n\n")
            now = time.perf_counter() - began
            for event in events:
                if not event.startswith(b"data: {"):
                    continue
                data = json.loads(event[6:])
                if "error" in data:
                    raise RuntimeError(str(data))
                for choice in data["choices"]:
                    if text := choice.get("text") or choice.get("delta", {}).get("content"):
                        found.texts.append(text)
                        found.moments.append(now)
        found.seconds = time.perf_counter() - began
        return found

    async def parts(self, path: str, body: bytes) -> AsyncIterator[bytes]:
        """The parts of a streamed response, as they come.

        Raises:
            RuntimeError: the status is not 200.
        """
        status, headers = await self._send(path, body)
        if status != 200:
            raise RuntimeError(f"{status}: {(await self._body(headers))[:500]!r}")
        async for part in self._parts():
            yield part

    async def _send(self, path: str, body: bytes, kind: str = "application/json") -> tuple[int, dict[bytes, bytes]]:
        head = f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: {kind}\r\n"
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode("ascii") + body)
        await self._writer.drain()
        lines = (await self._reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        headers = dict(line.lower().split(b": ", 1) for line in lines[1:] if line)
        return int(lines[0].split()[1]), headers

    async def _body(self, headers: dict[bytes, bytes]) -> bytes:
        if b"content-length" in headers:
            return await self._reader.readexactly(int(headers[b"content-length"]))
        return b"".join([part async for part in self._parts()])

    async def _parts(self) -> AsyncIterator[bytes]:
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            yield (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readexactly(2)


def encoded(body: Any) -> bytes:
    """A body as JSON."""
    return json.dumps(body).encode()


def form(fields: Mapping[str, str], name: str, file: str, content: bytes) -> tuple[bytes, str]:
    """A form with fields and one file: the body, and its type."""
    mark = "gpux-form"
    head = "".join(
        f'--{mark}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in fields.items()
    )
    head += f'--{mark}\r\nContent-Disposition: form-data; name="{name}"; filename="{file}"\r\n\r\n'
    return head.encode() + content + f"\r\n--{mark}--\r\n".encode(), f"multipart/form-data; boundary={mark}"


@dataclass
class Load:
    """Requests of several clients at once."""

    seconds: float  #: until the last response
    latencies: list[float]
    cpu: float  #: processor seconds of this client


async def load(url: str, path: str, bodies: Sequence[bytes], clients: int) -> Load:
    """Send all bodies from several connections, each of which sends the next body after its last response."""
    connections = [await Connection.open(url) for _ in range(clients)]
    waiting, latencies = list(reversed(bodies)), []

    async def client(connection: Connection) -> None:
        while waiting:
            body = waiting.pop()
            began = time.perf_counter()
            await connection.post(path, body)
            latencies.append(time.perf_counter() - began)

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*map(client, connections))
    found = Load(time.perf_counter() - began, latencies, time.process_time() - cpu)
    await asyncio.gather(*(one.close() for one in connections))
    return found
