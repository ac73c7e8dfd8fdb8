"""Rankings as Cohere's and Jina's APIs answer them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpux.errors import GpuxError
from gpux.server.api.endpoint import Api, Endpoint
from gpux.server.api.openai import errors as openai
from gpux.server.api.rerank.bodies import DocumentsBody
from gpux.server.api.rerank.ranking import rerank


def error_body(error: GpuxError, status: int) -> Mapping[str, Any]:
    """``message`` as Cohere's clients read it, and ``error`` as OpenAI's API has it."""
    found = openai.error_body(error, status)
    return {"message": found["error"]["message"], **found}


PATHS = ("/v1/rerank", "/v2/rerank")
API = Api(
    "rerank",
    PATHS[0],
    tuple(Endpoint("POST", path, rerank, "infer", DocumentsBody, summary="Rank documents") for path in PATHS),
    error_body,
    openai.status_of,
    openai.error_headers,
    more_prefixes=PATHS[1:],
)
