"""``/embed``, ``/embed_all``, ``/embed_sparse`` and ``/similarity``."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from gpux.server.api import vectors
from gpux.server.api.choice import EMBEDDING, SPARSE, chosen
from gpux.server.api.endpoint import Call
from gpux.server.api.tei.bodies import EmbedBody, SimilarityBody, SimilarityParameters, TokensBody, texts_of
from gpux.server.http import json_response, until_disconnected
from gpux.server.workers.messages import Answer, Answered, Embed, Embedded


async def embed(call: Call) -> Response:
    """A vector of each text."""
    body: EmbedBody = call.body
    options: dict[str, Any] = {"truncation": body.truncation(), "normalize": body.normalize}
    options |= {"prompt_name": body.prompt_name, "truncate_dim": body.dimensions}
    request = Embed(0, texts_of(body.inputs), options)
    name = chosen(call, body.model, EMBEDDING)

    async def answer() -> Embedded:
        async with call.core.models.lease(name, EMBEDDING) as loaded:
            return await call.core.embed(loaded, request)

    found = await until_disconnected(call.request, answer())
    return json_response(vectors.rows(found.vectors))


async def embed_all(call: Call) -> Response:
    """A vector of each token of each text."""
    body: TokensBody = call.body
    options = {"truncation": body.truncation()}
    found = await _answer(call, body, EMBEDDING, "feature-extraction", texts_of(body.inputs), options)
    return json_response([one[0] for one in found])


async def embed_sparse(call: Call) -> Response:
    """The weights of vocabulary entries that are not zero, of each text."""
    body: TokensBody = call.body
    options = {"truncation": body.truncation(), "prompt_name": body.prompt_name}
    found = await _answer(call, body, SPARSE, "sparse-embedding", texts_of(body.inputs), options)
    return json_response([_weights(one["indices"], one["values"]) for one in found])


def _weights(indices: list[int], values: list[float]) -> list[dict[str, Any]]:
    return [{"index": index, "value": value} for index, value in zip(indices, values, strict=True)]


async def similarity(call: Call) -> Response:
    """How similar each sentence is to the source sentence."""
    body: SimilarityBody = call.body
    given = body.parameters or SimilarityParameters()
    options = {"truncation": given.truncation(), "prompt_name": given.prompt_name}
    texts_of(body.inputs.source_sentence, "source_sentence")
    item = {
        "source_sentence": body.inputs.source_sentence,
        "sentences": texts_of(body.inputs.sentences, "sentences"),
    }
    found = await _answer(call, body, EMBEDDING, "sentence-similarity", [item], options)
    return json_response(found[0])


async def _answer(
    call: Call, body: Any, tasks: tuple[str, ...], task: str, inputs: list[Any], options: dict[str, Any]
) -> Any:
    name = chosen(call, body.model, tasks)
    given = {option: value for option, value in options.items() if value is not None}

    async def answer() -> Answered:
        async with call.core.models.lease(name, tasks) as loaded:
            return await call.core.answer(loaded, Answer(0, inputs, given, task=task))

    return (await until_disconnected(call.request, answer())).answers
