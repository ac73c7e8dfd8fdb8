"""Anthropic's API below ``/v1/messages``. Source of the formats: its API reference, and the types of its clients."""

from __future__ import annotations

from gpux.server.api.anthropic.counts import CountRequest, count_tokens
from gpux.server.api.anthropic.errors import error_body, error_headers, status_of
from gpux.server.api.anthropic.messages import MessagesRequest, messages
from gpux.server.api.endpoint import Api, Endpoint

API = Api(
    "anthropic",
    "/v1/messages",
    (
        Endpoint("POST", "/v1/messages", messages, "infer", MessagesRequest, summary="Answer a conversation"),
        Endpoint(
            "POST", "/v1/messages/count_tokens", count_tokens, "infer", CountRequest, summary="Count tokens of a prompt"
        ),
    ),
    error_body,
    status_of,
    error_headers,
)
