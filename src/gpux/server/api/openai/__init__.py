"""OpenAI's API below ``/v1``. Source of the formats: OpenAI's API reference, and what its clients insist on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpux.errors import GpuxError
from gpux.server.api.endpoint import Api, Endpoint
from gpux.server.api.openai.chat import ChatRequest, chat_completions
from gpux.server.api.openai.models import get_model, list_models

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "service_unavailable",
}


def error_body(error: GpuxError, status: int) -> Mapping[str, Any]:
    """``{"error": {"message", "type", "param", "code"}}``."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    message = error.message if error.hint is None else f"{error.message}. {error.hint}"
    return {"error": {"message": message, "type": kind, "param": error.details.get("param"), "code": error.code}}


API = Api(
    "openai",
    "/v1",
    (
        Endpoint("GET", "/v1/models", list_models, "read", summary="List models"),
        Endpoint("GET", "/v1/models/{id:path}", get_model, "read", summary="One model"),
        Endpoint("POST", "/v1/chat/completions", chat_completions, "infer", ChatRequest, summary="Answer a chat"),
    ),
    error_body,
)
