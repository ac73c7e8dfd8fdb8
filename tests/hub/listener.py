"""A listening port, whose threads read, record and answer requests."""

from __future__ import annotations

import http.server
import selectors
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from typing import Any

from tests.hub.faults import FaultPlan
from tests.hub.messages import HubError, Listener, Reply, Request
from tests.hub.transfer import Transfer, will_reset

HOST = "127.0.0.1"
URL_HOSTS: dict[Listener, str] = {"origin": HOST, "cdn": "localhost"}
"""The hosts in the two URLs. huggingface_hub recognizes a redirect to the CDN by scheme, host and port, 1.x by the
host alone: with equal hosts it would follow the redirect and miss the headers of the file."""
MAX_BODY_SIZE = 10_000_000


@dataclass
class RecordedRequest:
    """One received request. `path` includes the query; the names of `headers` are case-insensitive.

    It is recorded on arrival. `status` is 0 until the reply begins, and stays 0 if the connection is dropped.
    `bytes_sent` counts the bytes of the body that were written to the socket so far, without the headers.
    """

    method: str
    path: str
    headers: Message
    listener: Listener
    status: int = 0
    bytes_sent: int = 0
    time: float = field(default_factory=time.time)


class Recorder:
    """The received requests, and the exceptions that were raised while they were answered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: list[RecordedRequest] = []
        self.errors: list[BaseException] = []

    def add(self, request: Request) -> RecordedRequest:
        """Records a request; the thread that answers it updates the record."""
        record = RecordedRequest(request.method, request.target, request.headers, request.listener)
        with self._lock:
            self._requests.append(record)
        return record

    def all(self) -> list[RecordedRequest]:
        """The records in the order of arrival."""
        with self._lock:
            return list(self._requests)

    def clear(self) -> None:
        """Removes the requests, not the errors."""
        with self._lock:
            self._requests.clear()


class ListeningServer(http.server.ThreadingHTTPServer):
    """One port. Every connection has a daemon thread."""

    daemon_threads = True
    timeout = 0  # handle_request() is called for a connection that is there
    request_queue_size = 1024
    allow_reuse_address = True

    def __init__(
        self,
        name: Listener,
        port: int,
        answer: Callable[[Request], Reply],
        faults: FaultPlan,
        recorder: Recorder,
    ) -> None:
        self.name = name
        self.answer = answer
        self.faults = faults
        self.recorder = recorder
        self.stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        self._wake, self._woken = socket.socketpair()
        super().__init__((HOST, port), Connection)

    @property
    def url(self) -> str:
        """The URL of this port."""
        return f"http://{URL_HOSTS[self.name]}:{self.server_address[1]}"

    def server_bind(self) -> None:
        """Binds without HTTPServer's look-up of the host name, which can take seconds."""
        socket_address = self.server_address
        if self.allow_reuse_address:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(socket_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = HOST, self.server_address[1]

    def start(self) -> None:
        """Serves in a thread of its own."""
        self._thread = threading.Thread(target=self._serve, name=f"hub-{self.name}", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        """Accepts connections until `stop`, which serve_forever() would notice only after its poll interval."""
        with selectors.DefaultSelector() as selector:
            for waited in (self.socket, self._woken):
                selector.register(waited, selectors.EVENT_READ)
            while all(key.fileobj is not self._woken for key, _ in selector.select()):
                self.handle_request()

    def stop(self) -> None:
        """Stops listening and closes all connections; a client with a kept-alive connection is refused."""
        self.stopping.set()
        self._wake.send(b"stop")
        self._thread.join()
        self.server_close()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def server_close(self) -> None:
        """Closes the port, which nothing serves any more."""
        super().server_close()
        self._wake.close()
        self._woken.close()

    @property
    def connections(self) -> list[socket.socket]:
        """The open connections."""
        with self._open_lock:
            return list(self._open)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Registers the connection, for `stop`, and starts its thread."""
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection. A connection to be reset is not shut down first: that would send FIN."""
        with self._open_lock:
            self._open.discard(request)
        with suppress(OSError):
            if not will_reset(request):
                request.shutdown(socket.SHUT_WR)
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keeps every error for the test, except a disconnect by the client."""
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError):
            self.recorder.errors.append(error)
            traceback.print_exception(error)


class Connection(http.server.BaseHTTPRequestHandler):
    """One connection and its sequential requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: ListeningServer

    def _handle(self) -> None:
        body = self._read_body()
        request = Request(self.command, self.path, self.headers, self.server.name, body or b"")
        record = self.server.recorder.add(request)

        def count(status: int, sent: int) -> None:
            record.status = status
            record.bytes_sent += sent

        reply = self._answer(request) if body is not None else HubError(413, "Request body too large").reply()
        faults = self.server.faults.take(request, reply)
        for fault in faults:
            if fault.on_strike is not None:
                fault.on_strike()
        transfer = Transfer(self.connection, self.server.stopping, count)
        keep_alive = not self.close_connection and body is not None
        kept = transfer.send(reply, faults, head_only=self.command == "HEAD", keep_alive=keep_alive)
        self.close_connection = not kept

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _handle  # noqa: N815 (http.server)

    def _answer(self, request: Request) -> Reply:
        """The application's reply; 500 if it raised, which is a defect of this server, not a planned fault."""
        try:
            return self.server.answer(request)
        except Exception as error:
            self.server.recorder.errors.append(error)
            traceback.print_exception(error)
            return HubError(500, f"Internal Server Error: {type(error).__name__}").reply()

    def _read_body(self) -> bytes | None:
        """The request's body; None if it is too large or of unknown length, and the connection must be closed."""
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal() or int(length) > MAX_BODY_SIZE:
            return None
        return self.rfile.read(int(length))

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing: requests are recorded."""
