"""``/v1/chat/completions`` and ``/v1/completions``, which clients append to the address of a model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
from starlette.responses import Response

from gpux.server.api.endpoint import Call
from gpux.server.api.openai.chat import ChatRequest, chat_completions
from gpux.server.api.openai.completions import CompletionRequest, completions
from gpux.server.http import decode_json


async def chat(call: Call) -> Response:
    """Answer the messages of a chat by the model of the path, whatever the body calls it."""
    body: dict[str, Any] = {**call.body, "model": call.path["id"]}
    for name in ("tool_prompt",):
        if body.get(name) is None:
            body.pop(name, None)
    shape = body.get("response_format")
    if isinstance(shape, dict) and "value" in shape:  # as huggingface_hub writes a JSON schema
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": shape["value"]}}
    return await chat_completions(replace(call, body=decode_json(msgspec.json.encode(body), ChatRequest)))


async def complete(call: Call) -> Response:
    """Continue prompts by the model of the path, as ``@huggingface/inference`` generates texts."""
    body = {**call.body, "model": call.path["id"]}
    return await completions(replace(call, body=decode_json(msgspec.json.encode(body), CompletionRequest)))
