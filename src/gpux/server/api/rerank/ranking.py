"""Scores of texts for a query, and the answers of Cohere's and Jina's APIs."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from starlette.responses import Response

from gpux.errors import UsageError
from gpux.server.api.choice import CLASSIFIER, EMBEDDING, chosen, ranks
from gpux.server.api.endpoint import Call
from gpux.server.api.rerank.bodies import DocumentsBody
from gpux.server.http import json_response, until_disconnected
from gpux.server.security.limits import check_request
from gpux.server.workers.messages import Rank, Ranked

_TASKS = (*CLASSIFIER, *EMBEDDING)


async def rerank(call: Call) -> Response:
    """Rank documents for a query, the most relevant first."""
    return await rank_documents(call, call.body)


async def rank_documents(call: Call, body: DocumentsBody) -> Response:
    """See :func:`rerank`.

    Raises:
        GpuxError: the body is invalid, or no model ranks.
    """
    texts = body.texts()
    found = await ranked(call, body.model, body.query, texts)
    results = []
    for index in in_order(found.scores)[: body.top_n]:
        document = {"document": {"text": texts[index]}} if body.return_documents else {}
        results.append({"index": index, "relevance_score": found.scores[index], **document})
    version = "2" if call.request.url.path.startswith("/v2") else "1"
    return json_response(
        {
            "id": f"rerank-{secrets.token_hex(12)}",
            "object": "list",
            "model": body.model,
            "results": results,
            "usage": {"prompt_tokens": found.tokens, "total_tokens": found.tokens},
            "meta": {"api_version": {"version": version}, "billed_units": {"search_units": 1}},
        }
    )


async def ranked(
    call: Call, named: str | None, query: str, texts: list[str], *, raw: bool = False, truncation: bool = True
) -> Ranked:
    """The score of each text.

    Args:
        call: the request.
        named: the model in its body.
        query: a text.
        texts: to rank.
        raw: logits of a cross-encoder, in place of numbers between 0 and 1.
        truncation: cut texts that are longer than the model reads.

    Raises:
        UsageError: the query is empty, or it is not clear which model ranks.
        GpuxError: the model does not rank.
    """
    if not query:
        raise UsageError("query is empty", hint="Send a text.", param="query", empty=True)
    request = Rank(0, query, texts, {"truncation": truncation})
    check_request(request, call.core.settings)
    # A model of vectors ranks only where the request names it: of a server's models it is rarely the one meant.
    name = chosen(call, named, CLASSIFIER, fits=ranks)

    async def answer() -> Ranked:
        async with call.core.models.lease(name, _TASKS) as loaded:
            if loaded.task in CLASSIFIER:  # vectors are compared as their repository says
                request.options["activation_fn"] = "identity" if raw else "sigmoid"
            reply = await loaded.worker.ask(request)
            assert isinstance(reply, Ranked)
            return reply

    return await until_disconnected(call.request, answer())


def in_order(scores: Sequence[float]) -> list[int]:
    """The places of the scores, the greatest first."""
    return sorted(range(len(scores)), key=lambda index: -scores[index])
