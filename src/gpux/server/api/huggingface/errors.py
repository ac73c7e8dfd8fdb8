"""Errors as Hugging Face's clients read them: ``{"error": text, "error_type": kind}``, as text-generation-inference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpux.errors import (
    BusyError,
    CancelledError,
    DoesNotFitError,
    GpuxError,
    InputError,
    OverloadedError,
    RunError,
    UnsupportedError,
    UsageError,
)

#: Kinds that ``huggingface_hub`` turns into exceptions of their own; any other error has gpux's code.
_KINDS: tuple[tuple[type[GpuxError], str], ...] = (
    (UsageError, "validation"),
    (InputError, "validation"),
    (UnsupportedError, "validation"),
    (DoesNotFitError, "validation"),
    (BusyError, "overloaded"),
    (OverloadedError, "overloaded"),
    (RunError, "generation"),
)


def error_body(error: GpuxError, status: int) -> Mapping[str, Any]:
    """The body of a response, and the event that ends a stream that failed."""
    kind = next((name for type_, name in _KINDS if isinstance(error, type_)), error.code)
    message = error.message if error.hint is None else f"{error.message}. {error.hint}"
    return {"error": message, "error_type": kind, "code": error.code}


def status_of(error: GpuxError) -> int:
    """499 is for logs: a client that still listens learns that the server ended its request."""
    return 503 if isinstance(error, CancelledError) else error.http_status
