"""A server with OpenAI's API that answers at once, and fails in a way that the path of a request names.

``http://…/KIND/v1`` is an API of its own; the handler says what each kind does.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "some/model"
KEY = "secret-key"
#: Tokens of each answer, in chunks of one.
TOKENS = 5


@dataclass
class Partner:
    """A server that runs."""

    port: int
    sent: list[dict[str, Any]] = field(default_factory=list)  #: bodies of requests, in order
    counts: Counter[str] = field(default_factory=Counter)  #: requests by kind
    release: threading.Event = field(default_factory=threading.Event)  #: ends the waits of ``hangs`` and ``slow``

    def url(self, kind: str = "plain") -> str:
        """The address of an API that fails in this way."""
        return f"http://127.0.0.1:{self.port}/{kind}/v1"


@contextmanager
def partner() -> Iterator[Partner]:
    """The server, while the block runs."""

    class Handler(_Handler):
        found: Partner

    server = _Server(("127.0.0.1", 0), Handler)
    Handler.found = Partner(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Handler.found
    finally:
        Handler.found.release.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients leave in the middle of an answer."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    found: Partner

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        kind = self.path.split("/")[1]
        if kind == "page":
            self._send(404, b"<html>no such page</html>", "text/html")
        elif kind == "unlisted":
            self._error(404, "no such path", "path")
        else:
            names = {
                "several": [MODEL, "other/model"],
                "alias": ["other/model"],
                "precisions": [f"{MODEL}:fp32", MODEL, f"{MODEL}:int8"],
            }.get(kind, [MODEL])
            self._json(200, {"object": "list", "data": [{"id": name} for name in names]})

    def do_POST(self) -> None:
        kind = self.path.split("/")[1]
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.found.sent.append(body)
        self.found.counts[kind] += 1
        # The three requests that check the server are answered, so that faults meet the measurement.
        late = self.found.counts[kind] > 3
        if self._refuse_access(kind, body) or self._refuse_body(kind, body) or (late and self._refuse_late(kind)):
            return
        if self.path.endswith("/embeddings"):
            data = [] if kind == "empty" else [{"index": 0, "embedding": [0.5, 0.25]}]
            self._json(200, {"data": data, "usage": {"prompt_tokens": _words(body), "total_tokens": 0}})
        else:
            self._stream(kind, body, late)

    def _refuse_access(self, kind: str, body: dict[str, Any]) -> bool:
        if kind == "keys" and self.headers["authorization"] != f"Bearer {KEY}":
            self._error(401, "a key is needed", "invalid_api_key")
        elif kind == "forbidden":
            self._error(403, "not this model", "permission")
        elif body["model"] != MODEL:
            self._error(404, f"The model {body['model']} does not exist", None)
        else:
            return False
        return True

    def _refuse_body(self, kind: str, body: dict[str, Any]) -> bool:
        if kind == "page":
            self._send(404, b"<html>no such page</html>", "text/html")
        elif kind == "moved":
            self._send(307, b"", "text/html", location="https://elsewhere.example/v1")
        elif kind == "fastapi":
            self._json(422, {"detail": "a field is missing"})
        elif kind == "gateway":
            self._send(502, b"<html>bad gateway</html>", "text/html")
        elif kind == "text":
            self._send(500, b"Internal Server Error", "text/plain")
        elif kind == "alias":
            self._error(400, "the prompt is too long", None)
        elif kind == "not-a-stream":
            self._json(200, {"choices": []})
        elif kind == "no-options" and "stream_options" in body:
            self._error(400, "unknown field stream_options", None)
        elif kind == "new-names" and "max_tokens" in body:
            self._error(400, "Unsupported parameter: use 'max_completion_tokens' instead of 'max_tokens'", None)
        else:
            return False
        return True

    def _refuse_late(self, kind: str) -> bool:
        odd = self.found.counts[kind] % 2 == 1
        if kind == "too-long":
            self._error(400, "the prompt is too long", "context_length_exceeded")
        elif kind == "busy" and odd:
            self._error(429, "try later", "busy")
        elif kind == "broken" and odd:
            self._send(502, b"<html>bad gateway</html>", "text/html")
        else:
            return False
        return True

    def _stream(self, kind: str, body: dict[str, Any], late: bool) -> None:
        if kind == "hangs" and late:
            self.found.release.wait()
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        chat = "messages" in body
        self._event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        for number in range(TOKENS):
            if kind == "slow" and late and self.found.release.wait(0.05):
                break
            if number == 2 and late and self._fail(kind):
                return
            time.sleep(0.001)
            text: dict[str, Any] = {"delta": {"content": "a"}} if chat else {"text": "a"}
            if kind == "tools":
                text = {"delta": {"content": None, "tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}}
            self._event({"choices": [{"index": 0, **text}]})
        self._event({"choices": [{"index": 0, "delta": {}, "text": "", "finish_reason": "stop"}]})
        if kind != "uncounted" and "stream_options" in body:
            # Another number than that of the chunks, so that a test sees which of the two is reported.
            usage = {"prompt_tokens": _words(body), "completion_tokens": 2 * TOKENS}
            self._event({"choices": [], "usage": usage})
        self._event("[DONE]")
        self._part(b"")

    def _fail(self, kind: str) -> bool:
        """End the stream in this way; false where it does not fail."""
        if kind == "cut":
            self.close_connection = True
            self.wfile.flush()
            self.connection.shutdown(2)
        elif kind == "unfinished":
            self._part(b"")
        elif kind == "stream-error":
            self._event({"error": {"message": "the worker died", "code": "worker_died"}})
            self._part(b"")
        elif kind == "garbage":
            self._part(b"data: {not json\n\n")
            self._part(b"")
        else:
            return False
        return True

    def _event(self, data: object) -> None:
        text = data if isinstance(data, str) else json.dumps(data)
        self._part(f"data: {text}\n\n".encode())

    def _part(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _json(self, status: int, body: object) -> None:
        self._send(status, json.dumps(body).encode(), "application/json")

    def _error(self, status: int, message: str, code: str | None) -> None:
        self._json(status, {"error": {"message": message, "type": "some_error", "code": code}})

    def _send(self, status: int, body: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _words(body: dict[str, Any]) -> int:
    """What this server counts as tokens: two for each word, and three of a template."""
    text = body.get("prompt", body.get("input", "")) or body["messages"][-1]["content"]
    return 2 * len(str(text).split()) + 3
