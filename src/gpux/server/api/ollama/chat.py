"""``/api/chat``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from starlette.responses import Response

from gpux.errors import UsageError
from gpux.server.api.endpoint import Call
from gpux.server.api.ollama.generation import Exchange, load_or_unload, log_options, respond
from gpux.server.api.ollama.names import Name, required
from gpux.server.api.ollama.options import (
    Format,
    KeepAlive,
    Options,
    call_options,
    keep_alive_seconds,
    response_format,
)
from gpux.server.api.openai.parameters import Alternatives, check, refused, supported
from gpux.server.workers.messages import Generate

TASKS = ("text-generation",)
Think = bool | Literal["low", "medium", "high", "max"]


class Message(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One message."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | None = None
    thinking: str | None = None
    images: list[Any] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None
    name: str | None = None


class ChatRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of a request; see :mod:`gpux.server.api.ollama.options`."""

    model: Annotated[Name, supported("reference of a stored model, such as `org/name:int4`")]
    messages: Annotated[list[Message] | None, supported("none: load the model, or unload it with `keep_alive: 0`")] = (
        None
    )
    stream: Annotated[bool | None, supported("true by default")] = None
    format: Annotated[Format, supported("`json` or a JSON schema, enforced token by token")] = None
    options: Annotated[Options | None, supported("see below")] = None
    keep_alive: Annotated[
        KeepAlive, supported("seconds, or `5m`; -1: for ever; 0: unload after the answer; by default `--keep-alive`")
    ] = None
    think: Annotated[Think | None, supported("`false`: the template's `enable_thinking` is false; else refused")] = None
    logprobs: Annotated[bool | None, supported("of the model's own distribution")] = None
    top_logprobs: Annotated[Alternatives | None, supported("needs `logprobs: true`")] = None
    tools: Annotated[Any, refused("describe the tools in a message, and request their arguments by `format`", [])] = (
        None
    )
    truncate: Annotated[Any, refused("a prompt that does not fit into the context is refused", False)] = None
    shift: Annotated[Any, refused("an answer ends at the end of the context", False)] = None


async def chat(call: Call) -> Response:
    """Answer the messages of a chat; without any, load the model."""
    body: ChatRequest = call.body
    check(body)
    if body.options is not None:
        check(body.options, "options.")
    stream = body.stream is not False
    exchange = Exchange(
        required(body.model), _content, "messages", stream, keep_alive_seconds(body.keep_alive), bool(body.logprobs)
    )
    if not body.messages:
        return await load_or_unload(call, exchange, TASKS)
    options = {
        **call_options(body.options),
        **log_options(body.logprobs, body.top_logprobs),
        **thinking(body.model, body.think),
    }
    if (wanted := response_format(body.format)) is not None:
        options["response_format"] = wanted
    request = Generate(0, [plain(body.messages)], options, echo_tokens=bool(body.logprobs))
    return await respond(call, exchange, request, TASKS)


def _content(text: str) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text}}


def thinking(model: str, wanted: Think | None) -> dict[str, Any]:
    """The options of the pipeline's call for ``think``.

    Raises:
        UsageError: the model's thoughts are wanted.
    """
    if wanted is None:
        return {}
    if wanted is not False:
        raise UsageError(f"{model!r} does not support thinking", hint="Omit think, or set it to false.", param="think")
    return {"chat_template_kwargs": {"enable_thinking": False}}


def plain(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages as a chat template takes them.

    Raises:
        UsageError: a message has pictures, or nothing.
    """
    return [_plain(message, f"messages[{number}]") for number, message in enumerate(messages)]


def _plain(message: Message, place: str) -> dict[str, Any]:
    if message.images:
        raise UsageError(
            f"{place}.images is not supported", hint="The model reads texts only.", param=f"{place}.images"
        )
    calls = message.tool_calls or None
    if message.content is None and calls is None:
        raise UsageError(f"{place} has no content", hint="Add it.", param=f"{place}.content")
    found = {
        "role": "system" if message.role == "developer" else message.role,
        "content": message.content or "",
        "tool_calls": calls,
        "reasoning_content": message.thinking,
        "name": message.tool_name or message.name,
        "tool_call_id": message.tool_call_id,
    }
    return {name: value for name, value in found.items() if value is not None}
