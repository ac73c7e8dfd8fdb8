"""``/rerank``: ``texts`` as text-embeddings-inference, ``documents`` as Cohere and Jina."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from gpux.errors import UsageError
from gpux.server.api.endpoint import Call
from gpux.server.api.rerank.bodies import DocumentsBody
from gpux.server.api.rerank.ranking import in_order, rank_documents, ranked
from gpux.server.api.tei.bodies import RerankBody, read, texts_of
from gpux.server.http import json_response


async def rerank(call: Call) -> Response:
    """Rank texts for a query: ``texts`` as text-embeddings-inference, ``documents`` as Cohere and Jina."""
    given: dict[str, Any] = call.body
    if "texts" in given and "documents" in given:
        raise UsageError("the body has texts and documents", hint="Send one of them.", param="texts")
    if "documents" in given:
        return await rank_documents(call, read(given, DocumentsBody))
    if "texts" not in given:
        raise UsageError(
            "the body has no texts",
            hint='Send {"query": "…", "texts": […]}, or documents in place of texts.',
            param="texts",
        )
    body = read(given, RerankBody)
    texts = texts_of(body.texts, "texts")
    found = await ranked(call, body.model, body.query, texts, raw=body.raw_scores, truncation=body.truncation())
    return json_response(
        [
            {"index": index, **({"text": texts[index]} if body.return_text else {}), "score": found.scores[index]}
            for index in in_order(found.scores)
        ]
    )
