"""Errors in the shape of OpenAI's API: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpux.errors import (
    BusyError,
    CacheMemoryError,
    CancelledError,
    ContextLengthError,
    GpuxError,
    InvalidReferenceError,
    NotStoredError,
    OverloadedError,
    UnavailableError,
    UnsupportedTaskError,
    WorkerDiedError,
)

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "service_unavailable",
}
#: codes of OpenAI's API, where clients know them
_CODES: dict[type[GpuxError], str] = {
    ContextLengthError: "context_length_exceeded",
    NotStoredError: "model_not_found",
}
#: what the same request may not meet again
_PASSING = (BusyError, OverloadedError, WorkerDiedError, UnavailableError, CacheMemoryError, CancelledError)
#: which parameter an error is about, where the code that raised it did not know the request
_PARAMS: dict[type[GpuxError], str] = {
    InvalidReferenceError: "model",
    NotStoredError: "model",
    UnsupportedTaskError: "model",
}


def error_body(error: GpuxError, status: int) -> Mapping[str, Any]:
    """The body of a response, and the event that ends a stream that failed."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    message = error.message if error.hint is None else f"{error.message}. {error.hint}"
    param = error.details.get("param")
    if param is None:
        param = "model" if "model" in error.details else _of_type(error, _PARAMS)
    code = _of_type(error, _CODES) or error.code
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def status_of(error: GpuxError) -> int:
    """499 is for logs: a client that still listens learns that the server ended its request."""
    return 503 if isinstance(error, CancelledError) else error.http_status


def error_headers(error: GpuxError) -> Mapping[str, str]:
    """``x-should-retry``, since OpenAI's clients repeat every 5xx twice, and ``retry-after-ms`` for those."""
    found = {}
    if error.details.get("retry_after") is not None:
        found["retry-after-ms"] = str(max(1, round(error.details["retry_after"] * 1000)))
    passing = isinstance(error, _PASSING) and error.details.get("should_retry", True)
    if status_of(error) >= 500 and not passing:
        found["x-should-retry"] = "false"
    return found


def _of_type(error: GpuxError, table: Mapping[type[GpuxError], str]) -> str | None:
    return next((value for kind, value in table.items() if isinstance(error, kind)), None)
