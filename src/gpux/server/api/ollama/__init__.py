"""Ollama's API below ``/api``. Source of the formats: Ollama's documents and clients."""

from __future__ import annotations

from gpux.server.api.endpoint import Api, Endpoint
from gpux.server.api.ollama import models, unsupported
from gpux.server.api.ollama.chat import ChatRequest, chat
from gpux.server.api.ollama.embeddings import EmbeddingsRequest, EmbedRequest, embed, embeddings
from gpux.server.api.ollama.errors import error_body, status_of
from gpux.server.api.ollama.generate import GenerateRequest, generate
from gpux.server.api.ollama.pull import PullRequest, pull

_LINES = "application/x-ndjson"

API = Api(
    "ollama",
    "/api/",
    (
        Endpoint("GET", "/api/version", models.version, "read", summary="Version of the API"),
        Endpoint("GET", "/api/tags", models.tags, "read", summary="Stored models"),
        Endpoint("GET", "/api/ps", models.ps, "read", summary="Loaded models"),
        Endpoint("POST", "/api/show", models.show, "read", models.ShowRequest, summary="One stored model"),
        Endpoint("POST", "/api/chat", chat, "infer", ChatRequest, summary="Answer a chat", stream=_LINES),
        Endpoint("POST", "/api/generate", generate, "infer", GenerateRequest, summary="Answer a prompt", stream=_LINES),
        Endpoint("POST", "/api/embed", embed, "infer", EmbedRequest, summary="Vectors of texts"),
        Endpoint("POST", "/api/embeddings", embeddings, "infer", EmbeddingsRequest, summary="The vector of a text"),
        Endpoint("POST", "/api/pull", pull, "manage", PullRequest, summary="Pull a model", stream=_LINES),
        Endpoint("DELETE", "/api/delete", models.delete, "manage", models.DeleteRequest, summary="Remove a model"),
        Endpoint("POST", "/api/copy", unsupported.copy, "manage", summary="Not supported"),
        Endpoint("POST", "/api/create", unsupported.create, "manage", summary="Not supported"),
        Endpoint("POST", "/api/push", unsupported.push, "manage", summary="Not supported"),
        Endpoint("HEAD", "/api/blobs/{digest}", unsupported.blobs, "read", summary="Not supported"),
        Endpoint("POST", "/api/blobs/{digest}", unsupported.blobs, "manage", summary="Not supported"),
    ),
    error_body,
    status_of,
)
