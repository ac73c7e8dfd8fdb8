"""Conversations answered by any server with OpenAI's API (https://platform.openai.com/docs/api-reference/chat).

Which models read images, and how long their contexts are, stands in the lists of some servers; OpenAI's own list says
neither. A model of which that is not known counts as one that reads images: the server refuses those that it cannot
read.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, ClassVar, Final
from urllib.parse import quote, urlsplit

import msgspec

from gpux.chat.provider import ModelProvider, ProviderSetup
from gpux.chat.providers.connection import Connection, Refusal, api_key, checked_url, not_found
from gpux.chat.values import (
    OPENAI,
    ChatOptions,
    ChatRequest,
    Delta,
    Finished,
    FinishReason,
    Message,
    ModelCapabilities,
    ModelInfo,
    ModelMetadata,
)
from gpux.errors import GpuxError, InputError, ModelNotFoundError
from gpux.server.completion_chunks import DONE, Chunk, Piece, Usage

#: The variable of OpenAI's own key; it is sent to OpenAI's own server alone.
OPENAI_KEY: Final = "OPENAI_API_KEY"
#: Fields with the tokens of a context: vLLM, OpenRouter and llama-swap, LM Studio, Groq, Mistral.
CONTEXTS: Final = (
    *("max_model_len", "context_length", "loaded_context_length", "max_context_length", "context_window"),
    "max_input_tokens",
)
#: Seconds since 1970 until which a model may have been made; larger numbers are milliseconds.
LATEST: Final = 1 << 33


class OpenAICompatibleProvider(ModelProvider):
    """A client of a server with OpenAI's API.

    Its address is ``base_url`` of the configuration, with the part before ``/chat/completions``: usually it ends in
    ``/v1``. Without one it is OpenAI's own, whose key is in ``OPENAI_API_KEY`` unless the configuration says otherwise.
    """

    default_prefix: ClassVar[str] = "openai:"

    def __init__(self, setup: ProviderSetup) -> None:
        super().__init__(setup)
        self._connection: Connection | None = None
        self._asks_usage = True  #: cleared where the server refuses ``stream_options``

    async def _start(self) -> None:
        if self._connection is None:
            config = self.setup.config
            url = checked_url(config.base_url or OPENAI, config)
            key = await api_key(config, OPENAI_KEY if _is_openai(url) else None)
            self._connection = Connection(self.setup, url, key)

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()

    async def _models(self) -> list[ModelInfo]:
        found = await (await self._ready()).request("GET", "/models", dict)
        data = found.get("data")
        listed = [one for one in data if isinstance(one, dict)] if isinstance(data, list) else []
        return [self._info(one) for one in listed if isinstance(one.get("id"), str) and one["id"]]

    async def _find(self, model: str) -> ModelInfo | None:
        """By the list, else by its own path: lists do not name every model that can answer."""
        listed = await super()._find(model)
        if listed is not None or not model:
            return listed
        if not model.strip("."):  # a part of a path
            return None
        path = f"/models/{quote(model, safe='')}"
        try:
            found = await (await self._ready()).request("GET", path, dict, refusal=self._refusal(model, 400, 405))
        except ModelNotFoundError:
            return None
        return self._info({**found, "id": model})

    async def _stream(self, request: ChatRequest) -> AsyncGenerator[Delta | Finished]:
        connection = await self._ready()
        refusal = self._refusal(request.model)
        while True:
            body = self._body(connection, request)
            try:
                async with (
                    connection.stream("/chat/completions", body, refusal) as (media, lines),
                    aclosing(_pieces(connection, media, lines)) as pieces,
                ):
                    async for piece in pieces:
                        yield piece
                return
            except InputError as error:
                if not self._asks_usage or "stream_options" not in error.message:
                    raise
                self._asks_usage = False

    # Inside

    async def _ready(self) -> Connection:
        await self.initialize()
        assert self._connection is not None
        return self._connection

    def _refusal(self, model: str, *others: int) -> Refusal:
        """What 404, and other statuses, say about a model; a server without the path answers no JSON, or no message."""

        def refusal(status: int, said: str | None) -> GpuxError | None:
            if status not in (404, *others) or (said is None and not others):
                return None
            return not_found(self.name, model, "`gpux config models` lists those of all chat providers.")

        return refusal

    def _body(self, connection: Connection, request: ChatRequest) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [_message(one) for one in request.messages],
            "stream": True,
            **_options(request.options, connection.url),
        }
        if self._asks_usage:
            body["stream_options"] = {"include_usage": True}
        return body

    def _info(self, listed: Mapping[str, Any]) -> ModelInfo:
        name = str(listed["id"])
        created = _number(listed.get("created"))
        owner = listed.get("owned_by")
        return ModelInfo(
            name=f"{self.prefix}{name}",
            provider=self.name,
            display_name=name,
            description=owner if isinstance(owner, str) and owner else None,
            capabilities=ModelCapabilities(
                supports_vision=_reads_images(listed), supports_streaming=True, max_context_length=_context(listed)
            ),
            metadata=ModelMetadata(
                last_updated=datetime.fromtimestamp(created, UTC) if created and created < LATEST else None
            ),
        )


async def _pieces(connection: Connection, media: str, lines: AsyncGenerator[bytes]) -> AsyncGenerator[Delta | Finished]:
    """The pieces of an answer, from server-sent events or from a document of a server that does not stream."""
    reason: FinishReason | None = None
    usage = Usage()
    async with aclosing(_documents(connection, media, lines)) as documents:
        async for document in documents:
            chunk = connection.decoded(document, Chunk)
            if chunk.error is not None:
                raise connection.failed(_said(chunk.error))
            usage = chunk.usage or usage
            for choice in (chunk.choices or ())[:1]:
                if (delta := _delta(choice.delta or choice.message)) is not None:
                    yield delta
                if choice.finish_reason:
                    reason = "length" if choice.finish_reason == "length" else "stop"
    if reason is None:
        raise connection.broken()
    yield Finished(reason=reason, prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens)


async def _documents(connection: Connection, media: str, lines: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The JSON texts of an answer, until ``[DONE]``."""
    if media == "application/json":
        yield b"\n".join([line async for line in lines])
        return
    async for line in lines:
        if line.startswith(b"{"):  # some servers send an error without the form of an event
            yield line
        elif line.startswith(b"data:"):
            data = line[len(b"data:") :].strip()
            if data == DONE:
                await connection.rest(lines)
                return
            yield data


def _delta(found: Piece | None) -> Delta | None:
    if found is None:
        return None
    text, reasoning = _text(found.content), _text(found.reasoning_content) or _text(found.reasoning)
    return Delta(text=text, reasoning=reasoning) if text or reasoning else None


def _text(value: Any) -> str:
    """A text, or the texts of a list of parts."""
    if isinstance(value, list):
        return "".join(one["text"] for one in value if isinstance(one, dict) and isinstance(one.get("text"), str))
    return value if isinstance(value, str) else ""


def _said(error: Any) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) and message else msgspec.json.encode(error).decode()


def _message(message: Message) -> dict[str, Any]:
    if not message.images:
        return {"role": message.role, "content": message.content}
    parts: list[dict[str, Any]] = [{"type": "text", "text": message.content}] if message.content else []
    for one in message.images:
        url = f"data:{one.media_type};base64,{base64.b64encode(one.data).decode()}"
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return {"role": message.role, "content": parts}


def _options(options: ChatOptions, url: str) -> dict[str, Any]:
    given = {name: getattr(options, name) for name in options.__struct_fields__}
    found = {name: value for name, value in given.items() if value not in (None, ())}
    if "max_tokens" in found and _is_openai(url):  # refused by its newer models, and unknown to other servers
        found["max_completion_tokens"] = found.pop("max_tokens")
    return found


def _is_openai(url: str) -> bool:
    return urlsplit(url).hostname == urlsplit(OPENAI).hostname and url.startswith("https:")


def _reads_images(listed: Mapping[str, Any]) -> bool:
    """What the server says: OpenRouter, Mistral and LM Studio; else see the module."""
    architecture, capabilities = listed.get("architecture"), listed.get("capabilities")
    if isinstance(architecture, dict) and isinstance(modalities := architecture.get("input_modalities"), list):
        return "image" in modalities
    if isinstance(capabilities, dict) and isinstance(vision := capabilities.get("vision"), bool):
        return vision
    if isinstance(capabilities, list) and capabilities:
        return "vision" in capabilities
    return listed.get("type") not in ("llm", "embeddings")


def _context(listed: Mapping[str, Any]) -> int | None:
    meta = listed.get("meta")  # llama.cpp
    found = [listed.get(name) for name in CONTEXTS] + [meta.get("n_ctx_train") if isinstance(meta, dict) else None]
    return next((one for one in map(_number, found) if one), None)


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
