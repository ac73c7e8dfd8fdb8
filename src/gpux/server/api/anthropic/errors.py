"""Errors in the shape of Anthropic's API: ``{"type": "error", "error": {"type", "message"}, "request_id"}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpux.errors import GpuxError
from gpux.server import context
from gpux.server.api.openai import errors as openai

#: what clients read the id of a request from
REQUEST_ID = "request-id"
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def error_body(error: GpuxError, status: int) -> Mapping[str, Any]:
    """The body of a response, and the event that ends a stream that failed."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    message = error.message if error.hint is None else f"{error.message}. {error.hint}"
    if isinstance(param := error.details.get("param"), str) and param not in message:
        message = f"{param}: {message}"
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id()}


def status_of(error: GpuxError) -> int:
    """As in OpenAI's API."""
    return openai.status_of(error)


def error_headers(error: GpuxError) -> Mapping[str, str]:
    """Anthropic's clients know the headers about retries that OpenAI's know, and the id of the request."""
    return {**openai.error_headers(error), REQUEST_ID: request_id()}


def request_id() -> str:
    """The id of the request that is answered, as logs of the server have it."""
    found = context.current()
    return "" if found is None else found.id
