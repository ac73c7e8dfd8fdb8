"""The values between the sockets and the application: request, body, reply, error.

This module does not depend on sockets: a reply is computed, changed by a fault, and then sent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from email.message import Message
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

Listener = Literal["origin", "cdn"]
"""The port on which a request was received."""

CHUNK_SIZE = 256 * 1024


@dataclass(frozen=True)
class Request:
    """One HTTP request, read completely; `target` is the path with its query, still percent-encoded."""

    method: str
    target: str
    headers: Message
    listener: Listener
    body: bytes = b""

    @cached_property
    def path(self) -> str:
        """The path without its query, still percent-encoded (`%2F` and `/` differ on the Hub)."""
        return urlsplit(self.target).path

    @cached_property
    def segments(self) -> tuple[str, ...]:
        """The parts of `path` between slashes, still percent-encoded."""
        return tuple(self.path.removeprefix("/").split("/"))

    @cached_property
    def query(self) -> dict[str, list[str]]:
        """The decoded query; a list parameter is repeated (`filter=a&filter=b`)."""
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)

    def values(self, name: str) -> list[str]:
        """All values of a list parameter, which clients write `name` or `name[]`."""
        return self.query.get(name, []) + self.query.get(f"{name}[]", [])

    def value(self, name: str) -> str | None:
        """The last value of a parameter, or None."""
        return self.query.get(name, [None])[-1]

    def flag(self, name: str) -> bool:
        """A boolean parameter: 0.x sends `True`, later lines `true`, other clients `1`."""
        return is_true(self.value(name))


def is_true(value: str | None) -> bool:
    """Whether a boolean of a query or form, in any of its spellings, is set."""
    return value is not None and value.lower() in {"true", "1"}


@dataclass(frozen=True)
class Body:
    """Bytes `start` to `stop` (exclusive) of a value in memory or of a file, read only when sent."""

    source: bytes | Path
    size: int
    start: int
    stop: int

    @classmethod
    def of(cls, source: bytes | Path, size: int | None = None) -> Body:
        """The whole of `source`; `size`, if known, saves a stat."""
        if size is None:
            size = len(source) if isinstance(source, bytes) else source.stat().st_size
        return cls(source, size, 0, size)

    @property
    def length(self) -> int:
        """Bytes from `start` to `stop`."""
        return self.stop - self.start

    def whole(self) -> Body:
        """The same source without the range."""
        return replace(self, start=0, stop=self.size)

    def between(self, start: int, stop: int) -> Body:
        """A range of the source."""
        return replace(self, start=start, stop=stop)

    def chunks(self, size: int = CHUNK_SIZE) -> Iterator[bytes]:
        """The bytes, in pieces of at most `size`; a file that was truncated meanwhile ends early."""
        if isinstance(self.source, bytes):
            for at in range(self.start, self.stop, size):
                yield self.source[at : min(at + size, self.stop)]
            return
        with self.source.open("rb") as file:
            file.seek(self.start)
            left = self.length
            while left > 0 and (chunk := file.read(min(size, left))):
                left -= len(chunk)
                yield chunk


EMPTY = Body.of(b"")


@dataclass(frozen=True)
class Reply:
    """A response. `headers` have no Content-Length: it is derived from the body when the reply is sent."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = EMPTY

    def with_headers(self, headers: Mapping[str, str]) -> Reply:
        """The same reply with further headers, which replace present ones."""
        return replace(self, headers={**self.headers, **headers})

    def without_headers(self, *names: str) -> Reply:
        """The same reply without some headers; names are case-insensitive."""
        unwanted = {name.lower() for name in names}
        return replace(self, headers={k: v for k, v in self.headers.items() if k.lower() not in unwanted})


def json_reply(value: Any, headers: Mapping[str, str] | None = None, status: int = 200) -> Reply:
    """A reply with a JSON body."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    sent = {"Content-Type": "application/json; charset=utf-8", **(headers or {})}
    return Reply(status, sent, Body.of(text.encode()))


def redirect(status: int, location: str, headers: Mapping[str, str] | None = None) -> Reply:
    """A redirect with the short text body that the Hub gives it."""
    text = f"{'Found' if status == 302 else 'Temporary Redirect'}. Redirecting to {location}"
    sent = {"Content-Type": "text/plain; charset=utf-8", "Location": location, **(headers or {})}
    return Reply(status, sent, Body.of(text.encode()))


class HubError(Exception):
    """A refusal, in the form by which huggingface_hub classifies errors.

    The text is in the `X-Error-Message` header as well as in the body, because a reply to HEAD has no body and
    downloads start with HEAD; `X-Error-Code` selects the exception class.
    """

    def __init__(
        self, status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = dict(headers or {})

    def reply(self) -> Reply:
        """The refusal as a reply."""
        headers = {"X-Error-Message": self.message, **self.headers}
        if self.code is not None:
            headers["X-Error-Code"] = self.code
        return json_reply({"error": self.message}, headers, self.status)
