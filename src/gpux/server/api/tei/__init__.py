"""The paths of text-embeddings-inference (TEI); ``/rerank`` also answers Cohere's and Jina's clients.

Source of the formats: ``router/src/http/types.rs`` and ``server.rs`` of text-embeddings-inference 1.9.
"""

from __future__ import annotations

from typing import Any

from gpux.server.api.endpoint import Api, Endpoint
from gpux.server.api.tei.bodies import DecodeBody, EmbedBody, PredictBody, SimilarityBody, TokenizeBody, TokensBody
from gpux.server.api.tei.errors import error_body, status_of
from gpux.server.api.tei.info import info
from gpux.server.api.tei.labels import predict
from gpux.server.api.tei.ranking import rerank
from gpux.server.api.tei.root import answer
from gpux.server.api.tei.tokens import decode, tokenize
from gpux.server.api.tei.vectors import embed, embed_all, embed_sparse, similarity

_MODEL = {"model": "reference of a stored model"}


def _post(path: str, handler: Any, body: Any, summary: str) -> Endpoint:
    return Endpoint("POST", path, handler, "infer", body, query=_MODEL, summary=summary)


_ENDPOINTS = (
    Endpoint("GET", "/info", info, "read", query=_MODEL, summary="What answers"),
    _post("/embed", embed, EmbedBody, "Vectors of texts"),
    _post("/embed_all", embed_all, TokensBody, "Vectors of tokens"),
    _post("/embed_sparse", embed_sparse, TokensBody, "Sparse vectors of texts"),
    _post("/similarity", similarity, SimilarityBody, "How similar sentences are"),
    _post("/predict", predict, PredictBody, "Labels of texts"),
    _post("/rerank", rerank, dict[str, Any], "Rank texts for a query"),
    _post("/tokenize", tokenize, TokenizeBody, "Tokens of texts"),
    _post("/decode", decode, DecodeBody, "Texts of tokens"),
    _post("/", answer, dict[str, Any], "As /embed, /predict or /rerank, by the task of the model"),
)
API = Api(
    "tei",
    _ENDPOINTS[0].path,
    _ENDPOINTS,
    error_body,
    status_of,
    more_prefixes=tuple(one.path for one in _ENDPOINTS[1:] if one.path != "/"),
)
