"""Faults on demand: which requests fail, and how.

A fault is matched against the request and the reply that was computed for it, so that a fault of the body applies only
to a reply that has one. Faults that change the reply are applied here, faults of the connection by the sender.
"""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import unquote_plus

from tests.hub.messages import Body, Listener, Reply, Request

FaultKind = Literal[
    "status",  # another reply: `status`, `headers`, `body`
    "headers",  # the reply with `headers` added and those named in `remove` removed
    "drop",  # the connection is closed without a reply
    "hang",  # no reply for `seconds`, then the connection is closed
    "reset",  # TCP reset after `after` bytes of body
    "close",  # clean close after `after` bytes of body, with the full Content-Length announced
    "stall",  # a pause of `seconds` after `after` bytes of body, then the rest
    "short_length",  # only `after` bytes are announced and sent, although the file is larger
    "no_length",  # no Content-Length; the body ends with the connection
    "flip",  # all bits of the byte at `offset` of the file are inverted
    "ignore_range",  # 200 with the whole file, whatever the Range
    "gzip",  # Content-Encoding: gzip, chunked
    "latency",  # the reply begins `seconds` later
    "throttle",  # the body is sent at `rate` bytes per second
]

SHAPING = frozenset({"latency", "throttle"})
"""Kinds that delay a correct reply. All that match apply, together with one fault of another kind."""

_OF_THE_BODY = frozenset({"reset", "close", "stall", "short_length", "no_length", "flip", "gzip", "throttle"})


@dataclass(frozen=True)
class Fault:
    """One kind of failure, applied `times` times (None: always) after `skip` matching requests succeeded.

    A request matches if its method and listener are the given ones, if given, and its path with query contains `path`,
    encoded or decoded. A CDN URL contains the file's name without folders. Faults of the body apply to successful GETs
    only, unless `method` is given: a fault on `model.onnx` applies to the download, not to the HEAD request or redirect
    before it. `flip` applies only to replies that include its byte. `after` counts bytes of this reply's body, `offset`
    bytes of the file. `on_strike` is called in the server's thread when the fault is applied, before the reply is sent:
    with it a test orders events without waiting for a time.
    """

    kind: FaultKind
    path: str = ""
    method: str | None = None
    listener: Listener | None = None
    times: int | None = 1
    skip: int = 0
    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    body: bytes = b""
    after: int = 0
    offset: int = 0
    seconds: float = 3600.0
    rate: int = 1_000_000
    on_strike: Callable[[], object] | None = None

    def matches(self, request: Request, reply: Reply) -> bool:
        """Whether this fault applies to a request, regardless of `times` and `skip`."""
        if self.method not in (None, request.method) or self.listener not in (None, request.listener):
            return False
        if self.path not in request.target and self.path not in unquote_plus(request.target):
            return False
        if self.kind == "ignore_range":
            return reply.status == 206
        if self.kind == "flip" and not reply.body.start <= self.offset < reply.body.stop:
            return False
        if self.kind in _OF_THE_BODY and self.method is None:
            return request.method == "GET" and reply.status in (200, 206)
        return True


class FaultPlan:
    """The planned faults, in the order in which they were added."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[tuple[Fault, list[int]]] = []

    def add(self, fault: Fault) -> None:
        """Adds a fault."""
        with self._lock:
            self._faults.append((fault, [0]))

    def clear(self) -> None:
        """Removes all faults."""
        with self._lock:
            self._faults.clear()

    def strikes(self, fault: Fault) -> int:
        """How often a fault was applied."""
        with self._lock:
            return sum(max(seen - known.skip, 0) for known, (seen,) in self._faults if known == fault)

    def take(self, request: Request, reply: Reply) -> list[Fault]:
        """Selects and counts the faults for this request: all shaping faults and the first of the others."""
        taken: list[Fault] = []
        with self._lock:
            for fault, counter in self._faults:
                if fault.kind not in SHAPING and any(other.kind not in SHAPING for other in taken):
                    continue
                if fault.times is not None and counter[0] >= fault.skip + fault.times:
                    continue
                if not fault.matches(request, reply):
                    continue
                counter[0] += 1
                if counter[0] > fault.skip:
                    taken.append(fault)
        return taken


def change_reply(fault: Fault, reply: Reply) -> Reply:
    """The reply changed by a fault of its content; unchanged by a fault of the connection."""
    match fault.kind:
        case "status":
            return Reply(fault.status, dict(fault.headers), Body.of(fault.body))
        case "headers":
            return reply.without_headers(*fault.remove).with_headers(fault.headers)
        case "ignore_range":
            return replace(reply.without_headers("Content-Range"), status=200, body=reply.body.whole())
        case "short_length":
            body = reply.body
            return replace(reply, body=body.between(body.start, min(body.start + fault.after, body.stop)))
        case "gzip":
            packed = gzip.compress(b"".join(reply.body.chunks()), compresslevel=1, mtime=0)
            return replace(reply.with_headers({"Content-Encoding": "gzip"}), body=Body.of(packed))
        case _:
            return reply
