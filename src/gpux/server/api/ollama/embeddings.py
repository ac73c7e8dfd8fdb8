"""``/api/embed``, and ``/api/embeddings``, which is older."""

from __future__ import annotations

import time
from typing import Annotated, Any

import msgspec
from starlette.responses import Response

from gpux.errors import InputError, UsageError
from gpux.server.api.endpoint import Call
from gpux.server.api.ollama.generation import nanoseconds
from gpux.server.api.ollama.names import Name, required
from gpux.server.api.ollama.options import KeepAlive, Options, keep_alive_seconds
from gpux.server.api.openai.embeddings import numbers
from gpux.server.api.openai.parameters import Count, check, ignored, supported
from gpux.server.core import EMBEDDING_TASKS
from gpux.server.http import json_response, until_disconnected
from gpux.server.workers.messages import Embed, Embedded

_KEEP = "seconds, or `5m`; -1: for ever; by default `--keep-alive`"
_OPTIONS = "vectors have no options; unknown names are refused nevertheless"


class EmbedRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of ``embed``."""

    model: Annotated[Name, supported("reference of a stored model of feature-extraction or sentence-similarity")]
    input: Annotated[str | list[str] | None, supported("a text or a list of texts; none: load the model")] = None
    truncate: Annotated[
        bool | None, supported("cut texts that are longer than the model reads, which is the default; false: refuse")
    ] = None
    dimensions: Annotated[Count | None, supported("leading dimensions of the vectors; up to the model's")] = None
    keep_alive: Annotated[KeepAlive, supported(_KEEP)] = None
    options: Annotated[Options | None, ignored(_OPTIONS)] = None


class EmbeddingsRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of ``embeddings``."""

    model: Annotated[Name, supported("reference of a stored model of feature-extraction or sentence-similarity")]
    prompt: Annotated[str | None, supported("a text; none: load the model")] = None
    keep_alive: Annotated[KeepAlive, supported(_KEEP)] = None
    options: Annotated[Options | None, ignored(_OPTIONS)] = None


async def embed(call: Call) -> Response:
    """Vectors of texts, of length 1."""
    body: EmbedRequest = call.body
    check(body)
    began = time.monotonic()
    texts = [body.input] if isinstance(body.input, str) else body.input or []
    options: dict[str, Any] = {"truncation": body.truncate is not False, "normalize": True}
    if body.dimensions is not None:
        options["truncate_dim"] = body.dimensions
    found, leased = await _vectors(call, body.model, texts, body.keep_alive, options)
    return json_response(
        {
            "model": body.model,
            "embeddings": [] if found is None else numbers(found.vectors),
            "total_duration": nanoseconds(time.monotonic() - began),
            "load_duration": nanoseconds(leased - began),
            "prompt_eval_count": 0 if found is None else found.tokens,
        }
    )


async def embeddings(call: Call) -> Response:
    """The vector of one text, of the length that the model gives it."""
    body: EmbeddingsRequest = call.body
    check(body)
    texts = [body.prompt] if body.prompt else []
    found, _ = await _vectors(call, body.model, texts, body.keep_alive, {"truncation": True})
    return json_response({"embedding": [] if found is None else numbers(found.vectors)[0]})


async def _vectors(
    call: Call, model: str, texts: list[str], keep_alive: KeepAlive, options: dict[str, Any]
) -> tuple[Embedded | None, float]:
    """The vectors, None without texts; and the time when the model was loaded."""
    keep = keep_alive_seconds(keep_alive)
    texts = [] if texts == [""] else texts

    async def answer() -> tuple[Embedded | None, float]:
        async with call.core.models.lease(required(model), EMBEDDING_TASKS, keep_alive=keep) as loaded:
            leased = time.monotonic()
            size, wanted = loaded.worker.info.outputs.get("dimensions"), options.get("truncate_dim")
            if wanted is not None and size is not None and wanted > size:
                raise UsageError(
                    f"dimensions is {wanted}, and the model's vectors have {size}",
                    hint=f"Give at most {size}, or omit it.",
                    param="dimensions",
                )
            return (await call.core.embed(loaded, Embed(0, texts, options)) if texts else None), leased

    try:
        return await until_disconnected(call.request, answer())
    except InputError as error:
        more = {"param": "input", **error.details}
        raise InputError(error.message, hint="Shorten the text, or send truncate: true.", **more) from error
