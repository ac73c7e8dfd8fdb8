"""Errors in the shape of Ollama's API: ``{"error": "…"}``, also as the last line of a stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpux.errors import CancelledError, GpuxError, ModelNotFoundError, NotStoredError


def error_body(error: GpuxError, status: int) -> Mapping[str, Any]:
    """The body of a response. Clients look for ``not found`` in the text of a missing model."""
    message = error.message
    if isinstance(error, (ModelNotFoundError, NotStoredError)) and error.details.get("model"):
        message = f"model '{error.details['model']}' not found"
    return {"error": message if error.hint is None else f"{message}. {error.hint}"}


def status_of(error: GpuxError) -> int:
    """499 is for logs: a client that still listens learns that the server ended its request."""
    return 503 if isinstance(error, CancelledError) else error.http_status
