"""Hugging Face's inference API below ``/models``, which ``InferenceClient`` and ``@huggingface/inference`` speak.

Source of the formats: ``huggingface_hub.inference`` 2.4, whose types are generated from ``@huggingface/tasks``.
"""

from __future__ import annotations

from typing import Any

from gpux.server.api.endpoint import Api, Endpoint
from gpux.server.api.huggingface.chat import chat, complete
from gpux.server.api.huggingface.errors import error_body, status_of
from gpux.server.api.huggingface.inference import infer
from gpux.server.api.huggingface.info import health, info, status
from gpux.server.api.openai import errors as openai

#: Chats by the address of a model; their errors are those of OpenAI's API, as their answers are. Other paths that begin
#: alike belong to :data:`API`.
CHAT = Api(
    "huggingface-chat",
    "",
    (
        Endpoint(
            "POST", "/models/{id:path}/v1/chat/completions", chat, "infer", dict[str, Any], summary="Answer a chat"
        ),
        Endpoint(
            "POST", "/models/{id:path}/v1/completions", complete, "infer", dict[str, Any], summary="Continue prompts"
        ),
    ),
    openai.error_body,
    openai.status_of,
    openai.error_headers,
)
API = Api(
    "huggingface",
    "/models",
    (
        Endpoint("GET", "/models/{id:path}/info", info, "read", summary="What a model is"),
        Endpoint("GET", "/models/{id:path}/health", health, "read", summary="Whether a model is stored"),
        Endpoint("GET", "/models/{id:path}", info, "read", summary="What a model is"),
        Endpoint("GET", "/status/{id:path}", status, "read", summary="Whether a model is loaded"),
        Endpoint("POST", "/models/{id:path}/pipeline/{task}", infer, "infer", summary="Run the pipeline of a task"),
        Endpoint("POST", "/models/{id:path}", infer, "infer", summary="Run a model"),
    ),
    error_body,
    status_of,
)
