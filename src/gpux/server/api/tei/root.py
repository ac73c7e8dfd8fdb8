"""``POST /``, to which clients of text-embeddings-inference send that have its address alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from starlette.responses import Response

from gpux.errors import UsageError
from gpux.model.tasks import canonical
from gpux.server.api.choice import CLASSIFIER, EMBEDDING, chosen, classifies
from gpux.server.api.endpoint import Call
from gpux.server.api.tei.bodies import EmbedBody, PredictBody, read
from gpux.server.api.tei.labels import predict
from gpux.server.api.tei.ranking import rerank
from gpux.server.api.tei.vectors import embed


async def answer(call: Call) -> Response:
    """Rank a body with ``texts``; else embed or label ``inputs``, by the task of the model that answers.

    Raises:
        UsageError: it is not clear which model is meant, or it has another task.
    """
    given: dict[str, Any] = call.body
    if "texts" in given or "documents" in given:
        return await rerank(call)
    if _embeds(call, given.get("model")):
        return await embed(replace(call, body=read(given, EmbedBody)))
    return await predict(replace(call, body=read(given, PredictBody)))


def _embeds(call: Call, named: Any) -> bool:
    """Whether a model of vectors answers, and not a classifier."""
    name = named if isinstance(named, str) else call.query.get("model")
    if name:
        return canonical(call.core.models.find(name, (*EMBEDDING, *CLASSIFIER)).task) in EMBEDDING
    try:
        chosen(call, None, EMBEDDING)
    except UsageError as error:
        if error.details.get("stored"):
            raise
        chosen(call, None, CLASSIFIER, fits=classifies)
        return False
    return True
