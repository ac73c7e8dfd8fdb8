"""``/api/chat``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from starlette.responses import Response

from gpux.server.api.endpoint import Call
from gpux.server.api.ollama.generation import Exchange, Said, load_or_unload, respond
from gpux.server.api.ollama.messages import Message, plain
from gpux.server.api.ollama.names import without_nulls
from gpux.server.api.ollama.options import Asked, checked
from gpux.server.api.openai.parameters import supported
from gpux.server.api.openai.tools import LongFunctionName, Tool, parsing_of
from gpux.server.workers.messages import Generate

TASKS = ("text-generation",)


class Function(msgspec.Struct):
    """``tools[].function``."""

    name: LongFunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None


class FunctionTool(msgspec.Struct):
    """One of ``tools``."""

    function: Function
    type: str | None = None  #: clients send ``function``, or nothing


class ChatRequest(Asked, kw_only=True, forbid_unknown_fields=True):
    """The body of a request; see :mod:`gpux.server.api.ollama.options`."""

    messages: Annotated[list[Message] | None, supported("none: load the model, or unload it with `keep_alive: 0`")] = (
        None
    )
    tools: Annotated[
        list[FunctionTool] | None,
        supported("functions, for models whose chat template has tools; the model decides whether it calls them"),
    ] = None


async def chat(call: Call) -> Response:
    """Answer the messages of a chat; without any, load the model."""
    body: ChatRequest = call.body
    options = checked(body)
    exchange = Exchange.of(body, _content, "messages")
    if not body.messages:
        return await load_or_unload(call, exchange, TASKS)
    tools = _tools(body.tools or ())
    if tools:
        options["tools"] = [tool.described for tool in tools]
    parsing = parsing_of(tools, "auto")
    request = Generate(0, [plain(body.messages)], options, echo_tokens=exchange.logs, parsing=parsing)
    return await respond(call, exchange, request, TASKS)


def _tools(given: Sequence[FunctionTool]) -> list[Tool]:
    return [
        Tool(one.function.name, one.function.description, one.function.parameters, f"tools[{number}].function.name")
        for number, one in enumerate(given)
    ]


def _content(said: Said) -> dict[str, Any]:
    message = {"role": "assistant", "content": said.text, "thinking": said.thinking or None}
    return {"message": without_nulls({**message, "tool_calls": said.calls or None})}
