"""OpenAI's API below ``/v1``. Source of the formats: OpenAI's API reference, and what its clients insist on."""

from __future__ import annotations

from gpux.server.api.endpoint import Api, Endpoint
from gpux.server.api.openai.answers import (
    ChatCompletion,
    Embeddings,
    InputTokens,
    ModelObject,
    ModelObjects,
    ResponseObject,
    TextCompletion,
)
from gpux.server.api.openai.audio import transcriptions, translations
from gpux.server.api.openai.chat import ChatRequest, chat_completions
from gpux.server.api.openai.completions import CompletionRequest, completions
from gpux.server.api.openai.embeddings import EmbeddingRequest, embeddings
from gpux.server.api.openai.errors import error_body, error_headers, status_of
from gpux.server.api.openai.models import get_model, list_models
from gpux.server.api.openai.responses import InputTokensRequest, ResponseRequest, input_tokens, responses

API = Api(
    "openai",
    "/v1",
    (
        Endpoint("GET", "/v1/models", list_models, "read", answer=ModelObjects, summary="List models"),
        Endpoint("GET", "/v1/models/{id:path}", get_model, "read", answer=ModelObject, summary="One model"),
        Endpoint(
            "POST",
            "/v1/chat/completions",
            chat_completions,
            "infer",
            ChatRequest,
            ChatCompletion,
            summary="Answer a chat",
        ),
        Endpoint(
            "POST",
            "/v1/completions",
            completions,
            "infer",
            CompletionRequest,
            TextCompletion,
            summary="Continue prompts",
        ),
        # Clients of text-embeddings-inference and infinity know the path without its prefix.
        *(
            Endpoint("POST", path, embeddings, "infer", EmbeddingRequest, Embeddings, summary="Vectors of texts")
            for path in ("/v1/embeddings", "/embeddings")
        ),
        Endpoint(
            "POST",
            "/v1/responses",
            responses,
            "infer",
            ResponseRequest,
            ResponseObject,
            summary="Answer a conversation",
        ),
        Endpoint(
            "POST",
            "/v1/responses/input_tokens",
            input_tokens,
            "infer",
            InputTokensRequest,
            InputTokens,
            summary="Count the tokens of a conversation",
        ),
        Endpoint("POST", "/v1/audio/transcriptions", transcriptions, "infer", summary="Text of a sound"),
        Endpoint("POST", "/v1/audio/translations", translations, "infer", summary="English text of a sound"),
    ),
    error_body,
    status_of,
    error_headers,
    more_prefixes=("/embeddings",),
)
