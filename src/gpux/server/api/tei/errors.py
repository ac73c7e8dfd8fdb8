"""Errors as text-embeddings-inference answers them: ``{"error", "error_type"}``, and its statuses.

Source: ``router/src/http/server.rs`` of text-embeddings-inference 1.9.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpux.errors import (
    BusyError,
    CancelledError,
    GpuxError,
    InputError,
    OverloadedError,
    RunError,
    TooLargeError,
    UnsupportedError,
    UsageError,
    WorkerDiedError,
)


def status_of(error: GpuxError) -> int:
    """422 for a body that is invalid, 413 for too many or too long texts, 424 where the model fails."""
    if error.details.get("choice") or error.details.get("empty"):
        return 400
    if isinstance(error, InputError):
        return 413 if "limit" in error.details else 422
    if isinstance(error, (UsageError, UnsupportedError)):
        return 422
    if isinstance(error, (RunError, WorkerDiedError)):
        return 424
    return 503 if isinstance(error, CancelledError) else error.http_status


def error_body(error: GpuxError, status: int) -> Mapping[str, Any]:
    """The body of a response."""
    too_long = isinstance(error, InputError) and "limit" in error.details  # its hint names an option of pipelines
    hint = "Shorten it, or send truncate: true." if too_long else error.hint
    message = error.message if hint is None else f"{error.message}. {hint}"
    return {"error": message, "error_type": _kind(error, status), "code": error.code}


def _kind(error: GpuxError, status: int) -> str:
    if status == 400 and error.details.get("param") != "model":
        return "Empty"
    if isinstance(error, BusyError):
        return "Overloaded"
    if isinstance(error, (UsageError, UnsupportedError, InputError, TooLargeError)):
        return "Validation"
    if isinstance(error, (RunError, WorkerDiedError)):
        return "Backend"
    return "Unhealthy" if isinstance(error, (OverloadedError, CancelledError)) else error.code
