"""One endpoint of a server with OpenAI's API: its address, the bodies of requests, and the times of their answers.

Requests are sent by a transport of httpx2 without its client, which costs 0.2 ms for each request in merging headers,
cookies and redirects that are not needed here. Streams are split and decoded as they arrive.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import httpx2
import msgspec

from gpux import __version__
from gpux.errors import UsageError
from gpux.server.bench.prompts import Prompt
from gpux.server.completion_chunks import DONE, Chunk, Usage
from gpux.system import settings as environment
from gpux.system.settings import TOKEN_CHARACTERS

Kind = Literal["chat", "completions", "embeddings"]
PATHS: Mapping[Kind, str] = {
    "chat": "/chat/completions",
    "completions": "/completions",
    "embeddings": "/embeddings",
}
#: Bytes of an error's body that are read.
_MOST_OF_AN_ERROR = 64 << 10
#: Characters of an error that is a plain text; a longer one is a page.
_LONGEST_TEXT = 300

# Kinds of errors, as reports count them; responses with a status have ``HTTP 429``.
NO_CONNECTION = "no connection"
CONNECTION_LOST = "connection lost"
TIMEOUT = "timeout"
INCOMPLETE = "incomplete stream"
NOT_A_STREAM = "not a stream"
INVALID = "invalid answer"


class _Vector(msgspec.Struct):
    embedding: msgspec.Raw


class _Vectors(msgspec.Struct):
    data: list[_Vector]
    usage: Usage | None = None


_decode_chunk = msgspec.json.Decoder(Chunk).decode
_decode_vectors = msgspec.json.Decoder(_Vectors).decode


@dataclass(slots=True)
class Sample:
    """What was measured of one request. Moments are seconds of ``time.perf_counter``."""

    began: float
    ended: float = 0.0
    first: float | None = None  #: the first chunk with text
    last: float = 0.0  #: the last chunk with text
    chunks: int = 0  #: with text
    gaps: list[float] = field(default_factory=list)  #: seconds between two chunks with text
    prompt_tokens: int | None = None  #: None: the server did not say
    output_tokens: int | None = None
    error: str | None = None  #: its kind; None: the answer is complete
    status: int | None = None  #: of the response; None: no response arrived
    message: str = ""  #: of the error
    code: str = ""  #: of the error, in the server's words

    def fail(self, kind: str, message: str) -> None:
        """Record an error."""
        self.error, self.message = kind, message


@dataclass(frozen=True)
class Endpoint:
    """Where requests are sent, and what is the same in all of them.

    Raises:
        UsageError: the address, the key or a field of ``extra`` is invalid.
    """

    url: str  #: of the API, with its version: ``http://127.0.0.1:5000/v1``
    model: str
    kind: Kind = "chat"
    key: str | None = field(default=None, repr=False)
    max_tokens: int = 128
    timeout: float = 600.0  #: seconds for one request
    extra: Mapping[str, Any] = field(default_factory=dict)  #: further fields of each body
    limit_name: str = "max_tokens"  #: newer models of OpenAI take ``max_completion_tokens`` only
    with_usage: bool = True  #: ask for the number of tokens in streams

    def __post_init__(self) -> None:
        if self.key is not None and not TOKEN_CHARACTERS.fullmatch(self.key):
            raise UsageError(
                "the API key contains white space or characters that HTTP does not allow", hint="Copy the key again."
            )

    @property
    def address(self) -> str:
        """The URL that requests are sent to."""
        return f"{self.url}{PATHS[self.kind]}"

    def body(self, prompt: Prompt) -> bytes:
        """The JSON of a request."""
        if self.kind == "embeddings":
            return _encoded({"model": self.model, "input": prompt.content, **self.extra})
        body: dict[str, Any] = {"model": self.model}
        if self.kind == "completions":
            body["prompt"] = prompt.content
        elif isinstance(prompt.content, str):
            body["messages"] = [{"role": "user", "content": prompt.content}]
        else:
            body["messages"] = prompt.content
        body[self.limit_name] = prompt.max_tokens or self.max_tokens
        body["stream"] = True
        if self.with_usage:
            body["stream_options"] = {"include_usage": True}
        return _encoded({**body, **self.extra})

    async def send(self, connection: Connection, prompt: Prompt) -> Sample:
        """The measurement of one request; every failure of the server or the network is recorded in it."""
        body = self.body(prompt)
        sample = Sample(time.perf_counter())
        try:
            async with asyncio.timeout(self.timeout), connection.post(self.address, body) as response:
                sample.status = response.status_code
                if response.status_code != 200:
                    await _read_error(response, sample)
                elif self.kind == "embeddings":
                    _read_vectors(await _whole(response), sample)
                elif response.headers.get("content-type", "").startswith("text/event-stream"):
                    await _read_stream(response, sample)
                else:
                    sample.fail(NOT_A_STREAM, f"the answer is {response.headers.get('content-type') or 'without type'}")
        except TimeoutError:
            sample.fail(TIMEOUT, f"no complete answer within {self.timeout:g} s")
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as exc:
            sample.fail(NO_CONNECTION, str(exc) or type(exc).__name__)
        except httpx2.HTTPError as exc:
            sample.fail(CONNECTION_LOST, str(exc) or type(exc).__name__)
        sample.ended = time.perf_counter()
        return sample

    async def models(self, connection: Connection) -> list[str] | None:
        """The names of the server's models; None where it does not list them."""
        try:
            async with asyncio.timeout(self.timeout), connection.get(f"{self.url}/models") as response:
                found = json.loads(await _whole(response)) if response.status_code == 200 else None
        except (TimeoutError, httpx2.HTTPError, ValueError):
            return None
        listed = found.get("data") if isinstance(found, dict) else None
        if not isinstance(listed, list):
            return None
        return [one["id"] for one in listed if isinstance(one, dict) and isinstance(one.get("id"), str)]

    def changed(self, **fields: Any) -> Endpoint:
        """A copy with other fields."""
        return replace(self, **fields)


def base_url(text: str) -> str:
    """The address of an API: ``/v1`` is added where the address has no path.

    Raises:
        UsageError: the text is not an http(s) address.
    """
    given = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(given)
        httpx2.URL(given)
    except (ValueError, httpx2.InvalidURL):
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise UsageError(
            f"{text!r} is not the address of a server", hint="Write it as http://127.0.0.1:8000 or https://host/v1."
        )
    path = parts.path.rstrip("/")
    for one in PATHS.values():
        path = path.removesuffix(one)
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


class Connections:
    """Opens connections to the server of an address, through the proxy that the environment names for it.

    Raises:
        UsageError: the variable of the proxy does not contain an address.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        # Certificates of authorities are read for https only: it takes 25 ms.
        secure = url.startswith("https:")
        self._trusted = httpx2.create_ssl_context() if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._proxy = environment.proxies().for_url(url)
        self._headers = {
            "accept-encoding": "identity",
            "content-type": "application/json",
            "user-agent": f"gpux/{__version__}",
            **({} if key is None else {"authorization": f"Bearer {key}"}),
        }

    def open(self) -> Connection:
        """A connection, which connects at its first request."""
        transport = httpx2.AsyncHTTPTransport(
            verify=self._trusted,
            trust_env=False,
            proxy=None if self._proxy is None else self._proxy.url,
            limits=httpx2.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=None),
        )
        return Connection(transport, self._headers)


class Connection:
    """One connection, which is kept open; one request at a time."""

    def __init__(self, transport: httpx2.AsyncHTTPTransport, headers: Mapping[str, str]) -> None:
        self._transport = transport
        self._headers = dict(headers)

    async def close(self) -> None:
        """Close it."""
        await self._transport.aclose()

    @asynccontextmanager
    async def post(self, url: str, body: bytes) -> AsyncIterator[httpx2.Response]:
        """The response to a body, which is not read yet."""
        async with self._sent(httpx2.Request("POST", url, headers=self._headers, content=body)) as response:
            yield response

    @asynccontextmanager
    async def get(self, url: str) -> AsyncIterator[httpx2.Response]:
        """As :meth:`post`."""
        async with self._sent(httpx2.Request("GET", url, headers=self._headers)) as response:
            yield response

    @asynccontextmanager
    async def _sent(self, request: httpx2.Request) -> AsyncIterator[httpx2.Response]:
        response = await self._transport.handle_async_request(request)
        try:
            yield response
        finally:
            await response.aclose()


def _encoded(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


def _parts(response: httpx2.Response) -> AsyncIterator[bytes]:
    return cast("httpx2.AsyncByteStream", response.stream).__aiter__()


async def _whole(response: httpx2.Response, most: int | None = None) -> bytes:
    body = bytearray()
    async for part in _parts(response):
        body += part
        if most is not None and len(body) > most:
            break
    return bytes(body)


async def _read_error(response: httpx2.Response, sample: Sample) -> None:
    """Record a response that is not an answer: the message and the code of its body, if it has OpenAI's form."""
    body = await _whole(response, _MOST_OF_AN_ERROR)
    sample.message, sample.code = _described(body)
    if 300 <= response.status_code < 400:
        sample.message = f"it redirects to {response.headers.get('location', 'no address')}"
    sample.error = f"HTTP {response.status_code}" + (f" {sample.code}" if sample.code else "")


def _described(body: bytes) -> tuple[str, str]:
    """The message and the code of an error in the form of OpenAI, of Ollama, or of FastAPI; a short plain text too."""
    try:
        found = json.loads(body)
    except ValueError:
        text = body.decode("utf-8", "replace").strip()
        return ("", "") if text.startswith("<") or len(text) > _LONGEST_TEXT else (text, "")
    if not isinstance(found, dict):
        return "", ""
    fields = found.get("error", found)
    if isinstance(fields, str):
        return fields, ""
    if not isinstance(fields, dict):
        return "", ""
    message, code = fields.get("message", fields.get("detail")), fields.get("code")
    return message if isinstance(message, str) else "", code if isinstance(code, str) else ""


def _read_vectors(body: bytes, sample: Sample) -> None:
    try:
        found = _decode_vectors(body)
    except msgspec.DecodeError as exc:
        sample.fail(INVALID, f"it has no vectors: {exc}")
        return
    if not found.data:
        sample.fail(INVALID, "it has no vectors")
    if found.usage is not None:
        sample.prompt_tokens = found.usage.prompt_tokens


async def _read_stream(response: httpx2.Response, sample: Sample) -> None:
    """Record the chunks of a stream of server-sent events; those that arrive together have the same moment."""
    rest, finished = b"", False
    async for part in _parts(response):
        now = time.perf_counter()
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == DONE:
                finished = True
                continue
            try:
                chunk = _decode_chunk(data)
            except msgspec.DecodeError as exc:
                sample.fail(INVALID, f"a chunk of the stream has another form: {exc}")
                return
            if chunk.error is not None:
                sample.message, sample.code = _described(data)
                sample.error = f"error in the stream{f': {sample.code}' if sample.code else ''}"
                return
            finished = _record(chunk, sample, now) or finished
    if not finished:
        sample.fail(INCOMPLETE, "it ended without a finish reason and without [DONE]")


def _record(chunk: Chunk, sample: Sample, now: float) -> bool:
    """Record a chunk; returns whether it ends the answer."""
    finished = False
    if chunk.usage is not None:
        sample.prompt_tokens = chunk.usage.prompt_tokens
        sample.output_tokens = chunk.usage.completion_tokens
    for choice in chunk.choices or ():
        finished = finished or choice.finish_reason is not None
        delta = choice.delta
        if choice.text or (
            delta is not None and (delta.content or delta.reasoning_content or delta.reasoning or delta.tool_calls)
        ):
            if sample.first is None:
                sample.first = now
            else:
                sample.gaps.append(now - sample.last)
            sample.last = now
            sample.chunks += 1
    return finished
