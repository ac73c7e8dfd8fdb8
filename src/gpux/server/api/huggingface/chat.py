"""``/v1/chat/completions`` and ``/v1/completions``, which clients append to the address of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import msgspec
from starlette.responses import Response

from gpux.errors import UsageError
from gpux.server.api.endpoint import Call
from gpux.server.api.openai.chat import ChatRequest, chat_completions
from gpux.server.api.openai.completions import CompletionRequest, completions
from gpux.server.http import decode_json


async def chat(call: Call) -> Response:
    """Answer the messages of a chat by the model of the path, whatever the body calls it."""
    body = openai_body(call.body) | {"model": call.path["id"]}
    return await chat_completions(replace(call, body=decode_json(msgspec.json.encode(body), ChatRequest)))


async def complete(call: Call) -> Response:
    """Continue prompts by the model of the path, as ``@huggingface/inference`` generates texts."""
    body = {**call.body, "model": call.path["id"]}
    return await completions(replace(call, body=decode_json(msgspec.json.encode(body), CompletionRequest)))


def openai_body(given: Mapping[str, Any]) -> dict[str, Any]:
    """A body of ``huggingface_hub`` as OpenAI's API has it.

    Its values are objects with all their fields, so that a null stands for a field that is not given. Source of the
    names: ``huggingface_hub.inference._generated.types.chat_completion``, which follows text-generation-inference.

    Raises:
        UsageError: ``tool_prompt`` is given.
    """
    body = _given(given)
    if body.pop("tool_prompt", ""):
        raise UsageError("tool_prompt is not supported", hint="Write it into a message.", param="tool_prompt")
    if "tools" in body:
        body["tools"] = _each(body["tools"], lambda one: _with_parameters(_tool(one)))
    if "messages" in body:
        body["messages"] = _each(body["messages"], _message)
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and "function" in choice:
        body["tool_choice"] = {"type": "function", **choice}
    if isinstance(shape := body.get("response_format"), dict) and "value" in shape:
        body["response_format"] = _format(shape)
    return body


def _format(shape: Mapping[str, Any]) -> dict[str, Any]:
    """A grammar as a format: a regular expression, or a JSON schema, which may be named."""
    value = shape["value"]
    if shape.get("type") == "regex":
        return {"type": "regex", "pattern": value}
    if shape.get("type") == "json_schema" and isinstance(value, Mapping) and "schema" in value:
        value = value["schema"]
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": value}}


def _with_parameters(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool whose parameters have their older name."""
    function = tool.get("function")
    if isinstance(function, dict) and "arguments" in function:
        function.setdefault("parameters", function.pop("arguments"))
    return tool


def _message(given: Mapping[str, Any]) -> dict[str, Any]:
    found = _given(given)
    if "content" in found:
        found["content"] = _each(found["content"], _given)
    if "tool_calls" in found:
        found["tool_calls"] = _each(found["tool_calls"], _tool)
    if found.get("role") == "tool":
        found.pop("name", None)  # the call that it answers has it
    return found


def _tool(given: Mapping[str, Any]) -> dict[str, Any]:
    """A tool, or a call of one, whose arguments may have nulls."""
    found = _given(given)
    if isinstance(function := found.get("function"), Mapping):
        found["function"] = _given(function)
    return found


def _given(value: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are not null."""
    return {name: one for name, one in value.items() if one is not None}


def _each(values: Any, change: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Any:
    return [change(one) if isinstance(one, Mapping) else one for one in values] if isinstance(values, list) else values
