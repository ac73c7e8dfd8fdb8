"""``/v1/chat/completions``."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.responses import Response

from gpux.errors import GpuxError
from gpux.server.api.endpoint import Call
from gpux.server.http import event, event_stream, json_response, until_disconnected
from gpux.server.workers.messages import Generate, Generated, Piece


class ChatRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request."""

    model: str
    messages: list[dict[str, Any]]
    stream: bool = False
    max_tokens: int | None = None
    temperature: float | None = None


async def chat_completions(call: Call) -> Response:
    """Answer the messages of a chat."""
    body: ChatRequest = call.body
    request = Generate(0, [body.messages], {"max_new_tokens": body.max_tokens, "temperature": body.temperature})
    head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": body.model}
    if body.stream:
        return event_stream(_stream(call, body, request, head))

    async def answer() -> Generated:
        async with call.core.models.lease(body.model, ("text-generation",)) as loaded:
            found: Generated = await loaded.worker.ask(request)
            return found

    found = await until_disconnected(call.request, answer())
    one = found.sequences[0]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": one.text},
        "finish_reason": "length" if one.finish_reason == "length" else "stop",
        "logprobs": None,
    }
    usage = {
        "prompt_tokens": one.prompt_tokens,
        "completion_tokens": one.tokens,
        "total_tokens": one.prompt_tokens + one.tokens,
    }
    return json_response({**head, "object": "chat.completion", "choices": [choice], "usage": usage})


async def _stream(call: Call, body: ChatRequest, request: Generate, head: dict[str, Any]) -> AsyncIterator[bytes]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return event({**head, "object": "chat.completion.chunk", "choices": [choice]})

    try:
        async with call.core.models.lease(body.model, ("text-generation",)) as loaded:
            yield chunk({"role": "assistant", "content": ""})
            async with aclosing(call.core.generate(loaded, request)) as replies:
                async for reply in replies:
                    if isinstance(reply, Piece):
                        yield chunk({"content": reply.text})
                    else:
                        yield chunk({}, "length" if reply.sequences[0].finish_reason == "length" else "stop")
        yield b"data: [DONE]\n\n"
    except GpuxError as error:
        from gpux.server.api.openai import API

        yield event(API.error_body(error, API.statuses(error)))
