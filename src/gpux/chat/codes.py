"""Codes of errors that clients of other chat servers know, beside gpux's own.

An error of this room has both: ``code``, which is stable and says most, and ``errorCode`` of this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from gpux import errors
from gpux.errors import GpuxError

ErrorCode = Literal[
    "HF_MODEL_NOT_FOUND",
    "HF_MODEL_LOAD_FAILED",
    "HF_MODEL_INFERENCE_FAILED",
    "HF_TOKENIZATION_ERROR",
    "HF_MEMORY_ERROR",
    "HF_CONFIGURATION_ERROR",
    "HF_AUTHENTICATION_ERROR",
    "HF_RATE_LIMIT_ERROR",
    "HF_CONNECTION_ERROR",
    "HF_UNKNOWN_ERROR",
]
#: class -> code; the nearest class counts
_CODES: dict[type[GpuxError], ErrorCode] = {
    GpuxError: "HF_UNKNOWN_ERROR",
    errors.ModelNotFoundError: "HF_MODEL_NOT_FOUND",
    errors.RevisionNotFoundError: "HF_MODEL_NOT_FOUND",
    errors.NotStoredError: "HF_MODEL_NOT_FOUND",
    errors.EntryNotFoundError: "HF_MODEL_NOT_FOUND",
    errors.ProviderNotFoundError: "HF_MODEL_NOT_FOUND",
    errors.ConversionError: "HF_MODEL_LOAD_FAILED",
    errors.ProofError: "HF_MODEL_LOAD_FAILED",
    errors.CorruptFileError: "HF_MODEL_LOAD_FAILED",
    errors.ManifestError: "HF_MODEL_LOAD_FAILED",
    errors.DeviceError: "HF_MODEL_LOAD_FAILED",
    errors.UnsupportedError: "HF_MODEL_LOAD_FAILED",
    errors.RunError: "HF_MODEL_INFERENCE_FAILED",
    errors.InputError: "HF_MODEL_INFERENCE_FAILED",
    errors.CancelledError: "HF_MODEL_INFERENCE_FAILED",
    errors.DeadlineError: "HF_MODEL_INFERENCE_FAILED",
    errors.WorkerDiedError: "HF_MODEL_INFERENCE_FAILED",
    errors.ProviderError: "HF_MODEL_INFERENCE_FAILED",
    errors.ContextLengthError: "HF_TOKENIZATION_ERROR",
    errors.OutOfMemoryError: "HF_MEMORY_ERROR",
    errors.CacheMemoryError: "HF_MEMORY_ERROR",
    errors.DoesNotFitError: "HF_MEMORY_ERROR",
    errors.OverloadedError: "HF_MEMORY_ERROR",
    errors.UsageError: "HF_CONFIGURATION_ERROR",
    errors.TooLargeError: "HF_CONFIGURATION_ERROR",  # the request has to change; no memory ran out
    errors.ConfigurationError: "HF_CONFIGURATION_ERROR",
    errors.AccessError: "HF_AUTHENTICATION_ERROR",
    errors.UnauthorizedError: "HF_AUTHENTICATION_ERROR",
    errors.ForbiddenError: "HF_AUTHENTICATION_ERROR",
    errors.ConversationAccessError: "HF_AUTHENTICATION_ERROR",
    errors.ProviderAccessError: "HF_AUTHENTICATION_ERROR",
    errors.RateLimitError: "HF_RATE_LIMIT_ERROR",
    errors.BusyError: "HF_RATE_LIMIT_ERROR",
    errors.TooManyAttemptsError: "HF_RATE_LIMIT_ERROR",
    errors.UnavailableError: "HF_CONNECTION_ERROR",
    errors.OfflineError: "HF_CONNECTION_ERROR",
    errors.ProviderUnavailableError: "HF_CONNECTION_ERROR",
}
#: HTTP status of the server behind a provider -> code
_STATUSES: dict[int, ErrorCode] = {
    401: "HF_AUTHENTICATION_ERROR",
    403: "HF_AUTHENTICATION_ERROR",
    404: "HF_MODEL_NOT_FOUND",
    429: "HF_RATE_LIMIT_ERROR",
}


def error_code(error: GpuxError) -> ErrorCode:
    """The code of an error; of a provider's error by the status that its server answered."""
    if isinstance(error, errors.OverloadedError) and error.details.get("stopping"):
        return "HF_CONNECTION_ERROR"
    if isinstance(error, errors.ProviderError) and (found := _STATUSES.get(error.details.get("status", 0))):
        return found
    return next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)


def error_document(error: GpuxError) -> dict[str, Any]:
    """What clients of this room get of an error: ``error`` (a sentence), ``code``, ``errorCode``, ``hint``, details.

    Args:
        error: as clients may see it, by :func:`gpux.server.security.redaction.public`.
    """
    found = {
        "error": error.message,
        "code": error.code,
        "errorCode": error_code(error),
        "hint": error.hint,
        **error.details,
    }
    return {name: value for name, value in found.items() if value is not None}


def error_body(error: GpuxError, status: int) -> Mapping[str, Any]:
    """:func:`error_document`, as APIs of the server take it."""
    return error_document(error)
