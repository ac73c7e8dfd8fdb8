"""What is known of the request that is answered, for the log and the metrics; never prompts, keys or queries."""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import monotonic

#: The header of a request's id, of requests and of responses.
HEADER = b"x-request-id"
_SANE = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")


@dataclass
class Context:
    """One request."""

    id: str
    method: str = "GET"
    api: str = "none"  #: name of the API whose endpoint was routed
    route: str = "none"  #: the endpoint's path with parameters in braces, never the path itself
    model: str | None = None  #: name of the stored model that answers
    started: float = field(default_factory=monotonic)


_current: ContextVar[Context | None] = ContextVar("gpux_request", default=None)


def current() -> Context | None:
    """The request that this task answers; None outside of requests."""
    return _current.get()


def begin(context: Context) -> None:
    """Set the request that this task answers."""
    _current.set(context)


def request_id(headers: list[tuple[bytes, bytes]]) -> str:
    """The id that a client gave, if it is short and plain, else a new one."""
    given = next((value for name, value in headers if name.lower() == HEADER), b"")
    return given.decode("ascii") if _SANE.fullmatch(given) else f"req_{secrets.token_hex(12)}"
