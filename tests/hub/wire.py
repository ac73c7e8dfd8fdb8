"""Requests without the Hub client: one connection each, and whatever comes back."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

CONFIG = "/acme/plain/resolve/main/config.json"
LFS = "/acme/plain/resolve/main/onnx/model.onnx"


@dataclass
class Answer:
    """An HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    url: str, method: str = "GET", body: bytes | None = None, *, token: str | None = None, **headers: str
) -> Answer:
    """One request on a connection of its own. Keyword `X_Name` is header `X-Name`."""
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, target, body, {key.replace("_", "-"): value for key, value in headers.items()})
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def read_raw(url: str) -> tuple[dict[str, str], bytes, type[Exception] | None]:
    """The headers, the body as far as it comes, and the error that ended it."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
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


def wait_for(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Waits until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
