"""``/v1/embeddings``."""

from __future__ import annotations

import sys
from array import array
from base64 import b64encode
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.responses import Response

from gpux.errors import InputError, UsageError
from gpux.server.api.endpoint import Call
from gpux.server.api.openai.parameters import Count, check, extension, ignored, supported
from gpux.server.core import EMBEDDING_TASKS
from gpux.server.http import json_response, until_disconnected
from gpux.server.workers.messages import Embed, Embedded, Tensor

MOST_INPUTS = 2048
_SIZE = 4  # bytes of a float32


class EmbeddingRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of a request; see :mod:`gpux.server.api.openai.parameters`."""

    model: Annotated[str, supported("reference of a stored model of feature-extraction or sentence-similarity")]
    input: Annotated[
        str | Annotated[list[Any], Meta(min_length=1, max_length=MOST_INPUTS)],
        supported("a text or up to 2,048 texts, none of them empty; token ids are refused"),
    ]
    encoding_format: Annotated[Literal["float", "base64"] | None, supported("`base64`: little-endian float32")] = None
    dimensions: Annotated[
        Count | None, supported("leading dimensions of the vectors, which get the length 1 again; up to the model's")
    ] = None
    user: Annotated[str | None, ignored("not stored")] = None

    truncate: Annotated[
        bool | None, extension("cut texts that are longer than the model reads; by default they are refused")
    ] = None
    prompt_name: Annotated[
        str | None, extension("one of the model's own prompts, such as `query`, which is put before each text")
    ] = None


async def embeddings(call: Call) -> Response:
    """Vectors of texts."""
    body: EmbeddingRequest = call.body
    check(body)
    options: dict[str, Any] = {"truncation": bool(body.truncate)}
    if body.dimensions is not None:
        options |= {"truncate_dim": body.dimensions, "normalize": True}
    if body.prompt_name is not None:
        options["prompt_name"] = body.prompt_name
    request = Embed(0, _texts(body.input), options)

    async def answer() -> Embedded:
        async with call.core.models.lease(body.model, EMBEDDING_TASKS) as loaded:
            _check_dimensions(body.dimensions, loaded.worker.info.outputs.get("dimensions"))
            return await call.core.embed(loaded, request)

    try:
        found = await until_disconnected(call.request, answer())
    except InputError as error:
        more = {"param": "input", **error.details}
        raise InputError(error.message, hint="Shorten the text, or send truncate: true.", **more) from error
    except UsageError as error:
        if body.prompt_name is not None:  # the only option whose values depend on the model
            error.details.setdefault("param", "prompt_name")
        raise
    _check_dimensions(body.dimensions, found.vectors.shape[1])
    vectors = _encoded(found.vectors) if body.encoding_format == "base64" else numbers(found.vectors)
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    usage = {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
    return json_response({"object": "list", "data": data, "model": body.model, "usage": usage})


def _texts(given: str | list[Any]) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    for number, text in enumerate(texts):
        place = "input" if isinstance(given, str) else f"input[{number}]"
        if not isinstance(text, str):
            raise UsageError(
                "input holds token ids, and must be a text or a list of texts",
                hint="Token ids of another tokenizer would be other texts. "
                "LangChain's OpenAIEmbeddings sends texts with check_embedding_ctx_length=False.",
                param="input" if isinstance(text, int) else place,
            )
        if not text:
            raise UsageError(f"{place} is empty", hint="Remove it.", param=place)
    return texts


def _check_dimensions(wanted: int | None, size: int | None) -> None:
    if wanted is not None and size is not None and wanted > size:
        raise UsageError(
            f"dimensions is {wanted}, and the model's vectors have {size}",
            hint=f"Give at most {size}, or omit it.",
            param="dimensions",
        )


def _encoded(vectors: Tensor) -> list[str]:
    return [b64encode(row).decode() for row in _rows(vectors)]


def numbers(vectors: Tensor) -> list[list[float]]:
    """The numbers of each vector."""
    found = []
    for row in _rows(vectors):
        numbers = array("f", row)
        if sys.byteorder == "big":
            numbers.byteswap()
        found.append(numbers.tolist())
    return found


def _rows(vectors: Tensor) -> list[bytes]:
    """The bytes of each vector, float32, little-endian."""
    count, size = vectors.shape
    return [vectors.data[row * size * _SIZE : (row + 1) * size * _SIZE] for row in range(count)]
