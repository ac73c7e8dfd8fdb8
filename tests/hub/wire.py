"""HTTP requests without huggingface_hub, each on a connection of its own."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

PATIENCE = 60.0  #: seconds after which a request or a condition counts as failed; no test waits for them
CONFIG = "/acme/plain/resolve/main/config.json"
LFS = "/acme/plain/resolve/main/onnx/model.onnx"


@dataclass
class Answer:
    """An HTTP response; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    url: str, method: str = "GET", body: bytes | None = None, *, token: str | None = None, **headers: str
) -> Answer:
    """Sends one request. Keyword `X_Name` is header `X-Name`."""
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)
    try:
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, target, body, {key.replace("_", "-"): value for key, value in headers.items()})
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def read_raw(url: str) -> tuple[dict[str, str], bytes, type[Exception] | None]:
    """The headers, the body as far as it was received, and the error that ended it."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)
    connection.request("GET", f"{parts.path}?{parts.query}")
    response = connection.getresponse()
    headers = {key.lower(): value for key, value in response.getheaders()}
    body, error = b"", None
    try:
        while chunk := response.read1(65536):
            body += chunk
    except (OSError, http.client.HTTPException) as raised:
        error = type(raised)
    response.close()
    connection.close()
    return headers, body, error


def wait_for(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Waits until a condition holds; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextmanager
def when(condition: Callable[[], object], action: Callable[[], object]) -> Iterator[None]:
    """Calls `action` in a thread as soon as `condition` holds; the block ends after that call."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            wait_for(condition)
            action()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert not failures, failures
