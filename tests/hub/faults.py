"""Faults on demand: which requests go wrong, and how.

A fault is matched against the request and the reply that was computed for it, so a fault in the body can wait
for an answer that has one. Those that change the reply are applied here; those of the connection are left to
the sender.
"""

from __future__ import annotations

import gzip
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import unquote_plus

from tests.hub.messages import Body, Listener, Reply, Request

FaultKind = Literal[
    "status",  # another answer: `status`, `headers`, `body`
    "headers",  # the answer with `headers` added and those named in `remove` gone
    "drop",  # the connection is closed without an answer
    "hang",  # no answer for `seconds`, then the connection is closed
    "reset",  # TCP reset after `after` bytes of body
    "close",  # clean close after `after` bytes of body, with the full Content-Length announced
    "stall",  # silence for `seconds` after `after` bytes of body, then the rest
    "short_length",  # only `after` bytes are announced and sent, although the file is larger
    "no_length",  # no Content-Length; the body ends with the connection
    "flip",  # all bits of the byte at `offset` of the file are inverted
    "ignore_range",  # 200 with the whole file, whatever the Range
    "gzip",  # Content-Encoding: gzip, chunked
    "latency",  # the answer begins `seconds` later
    "throttle",  # the body is sent at `rate` bytes per second
]

SHAPING = frozenset({"latency", "throttle"})
"""Kinds that slow a correct answer down. All that match apply, together with one fault of another kind."""

_OF_THE_BODY = frozenset({"reset", "close", "stall", "short_length", "no_length", "flip", "gzip", "throttle"})


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong, `times` times (None: always), after `skip` matching requests went well.

    A request matches if its method and listener are those given, where given, and its path with query contains
    `path`, as it was sent or decoded. A CDN URL holds the file's name, without folders. Faults of the body apply
    to successful GETs only, unless `method` is given; so a fault on `model.onnx` strikes the download and not the
    HEAD or redirect before it. `flip` strikes only answers that include its byte. `after` counts bytes of the
    body at hand, `offset` those of the file.
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

    def matches(self, request: Request, reply: Reply) -> bool:
        """Whether this fault concerns a request, however often it has struck."""
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
    """The faults to come, in the order in which they were added."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[tuple[Fault, list[int]]] = []

    def add(self, fault: Fault) -> None:
        """Plans one more fault."""
        with self._lock:
            self._faults.append((fault, [0]))

    def clear(self) -> None:
        """Forgets all faults."""
        with self._lock:
            self._faults.clear()

    def strikes(self, fault: Fault) -> int:
        """How often a fault has struck."""
        with self._lock:
            return sum(max(seen - known.skip, 0) for known, (seen,) in self._faults if known == fault)

    def take(self, request: Request, reply: Reply) -> list[Fault]:
        """The faults that strike this request, which are counted: all shaping ones and the first of the
        others."""
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
    """The reply as a fault of its content leaves it; unchanged for faults of the connection."""
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
