"""``/v1/chat/completions``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.responses import Response

from gpux.errors import UsageError
from gpux.server.api.endpoint import Call
from gpux.server.api.openai import logprobs
from gpux.server.api.openai.generation import TokenLog, answer_form, options_of, prepared, respond
from gpux.server.api.openai.messages import ChatMessage, plain
from gpux.server.api.openai.parameters import (
    Alternatives,
    Bias,
    Count,
    Sampling,
    check,
    extension,
    ignored,
    refused,
    supported,
)
from gpux.server.api.openai.thinking import Effort, effort_of, think
from gpux.server.api.openai.tools import FunctionName, Tool, parsing_of
from gpux.server.models import Loaded
from gpux.server.workers import messages as worker
from gpux.server.workers.messages import Generate, Parsing, Part, Piece

TASKS = ("text-generation",)


class JsonSchema(msgspec.Struct, forbid_unknown_fields=True):
    """``response_format.json_schema``."""

    name: Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,64}$")]
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, forbid_unknown_fields=True):
    """``response_format``."""

    type: Literal["text", "json_object", "json_schema", "regex"]
    json_schema: JsonSchema | None = None
    pattern: str | None = None
    value: dict[str, Any] | None = None  #: the schema of a ``json_object``, as huggingface_hub writes a ``json_schema``


class Function(msgspec.Struct, forbid_unknown_fields=True):
    """``tools[].function``."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(msgspec.Struct, forbid_unknown_fields=True):
    """One of ``tools``."""

    type: Literal["function"]
    function: Function


class ChosenFunction(msgspec.Struct, forbid_unknown_fields=True):
    """``tool_choice.function``."""

    name: FunctionName


class NamedChoice(msgspec.Struct, forbid_unknown_fields=True):
    """``tool_choice`` that names a function."""

    type: Literal["function"]
    function: ChosenFunction


class ChatRequest(Sampling, kw_only=True, forbid_unknown_fields=True):
    """The body of a request; see :mod:`gpux.server.api.openai.parameters`."""

    messages: Annotated[
        Annotated[list[ChatMessage], Meta(min_length=1)],
        supported("content as a text or a list of text parts; a last message of the assistant is continued"),
    ]
    max_completion_tokens: Annotated[
        Count | None,
        supported("without it, what the context leaves, and at most 2,048"),
    ] = None
    max_tokens: Annotated[Count | None, supported("the older name of `max_completion_tokens`")] = None
    logprobs: Annotated[bool | None, supported("of the model's own distribution, before penalties and temperature")] = (
        None
    )
    top_logprobs: Annotated[Alternatives | None, supported("needs `logprobs: true`")] = None
    logit_bias: Annotated[Bias | None, supported("ids are those of the model's own tokenizer")] = None
    response_format: Annotated[
        ResponseFormat | None,
        supported(
            "`text`, `json_object` and `json_schema`, enforced token by token with and without `strict`; "
            'and `{"type": "regex", "pattern": …}`; `json_object` may have a schema as `value`'
        ),
    ] = None
    tools: Annotated[
        list[FunctionTool] | None,
        supported(
            "functions, for models whose chat template has tools; with `strict`, calls have the arguments of the schema"
        ),
    ] = None
    tool_choice: Annotated[
        Literal["none", "auto", "required"] | NamedChoice | None,
        supported("`required` and a named function are enforced token by token; `none` hides the tools from the model"),
    ] = None
    parallel_tool_calls: Annotated[
        bool | None, supported("`false` limits calls that `tool_choice` enforces to one; Llama 3 always writes one")
    ] = None

    reasoning_effort: Annotated[
        Effort | None,
        supported("by the chat template: `none` turns reasoning off, a level is its `reasoning_effort`; else refused"),
    ] = None

    metadata: Annotated[dict[str, str] | None, ignored("not stored")] = None
    store: Annotated[bool | None, ignored("nothing is stored", False)] = None
    service_tier: Annotated[str | None, ignored("there is one tier", "auto", "default")] = None
    modalities: Annotated[list[str] | None, ignored("answers are texts", ["text"])] = None
    verbosity: Annotated[str | None, ignored("say it in a message", "medium")] = None
    safety_identifier: Annotated[str | None, ignored("not stored")] = None
    prompt_cache_key: Annotated[str | None, ignored("prompts that begin alike are found without it")] = None
    prompt_cache_retention: Annotated[str | None, ignored("prompts are kept in memory", "in_memory")] = None

    functions: Annotated[Any, refused("send `tools`", [])] = None
    function_call: Annotated[Any, refused("send `tool_choice`", "none", "auto")] = None
    audio: Annotated[Any, refused("answers are texts")] = None
    prediction: Annotated[Any, refused("omit it; the answer is the same without it")] = None
    web_search_options: Annotated[Any, refused("put what was found into a message")] = None
    moderation: Annotated[Any, refused("classify texts with a model of text-classification")] = None
    prompt_cache_options: Annotated[Any, refused("prompts that begin alike are found without it")] = None

    chat_template_kwargs: Annotated[
        dict[str, Any] | None, extension("variables of the model's chat template, such as `enable_thinking`")
    ] = None
    continue_final_message: Annotated[
        bool | None, extension("whether the answer continues the last message; by default one of the assistant")
    ] = None


async def chat_completions(call: Call) -> Response:
    """Answer the messages of a chat."""
    body: ChatRequest = call.body
    check(body)
    if body.top_logprobs is not None and not body.logprobs:
        raise UsageError("top_logprobs needs logprobs: true", hint="Set it, or omit both.", param="top_logprobs")
    options = options_of(
        body,
        most=_most(body),
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        bias=body.logit_bias,
    )
    if body.response_format is not None:
        options["response_format"] = _format(body.response_format)
    if body.chat_template_kwargs:
        options["chat_template_kwargs"] = body.chat_template_kwargs
    if body.continue_final_message is not None:
        options["continue_final_message"] = body.continue_final_message
    tools = _tools(body)
    if tools:
        options["tools"] = [tool.described for tool in tools]
    parsing = _parsing(body, tools)
    request = Generate(0, [plain(body.messages)], options, echo_tokens=bool(body.logprobs), parsing=parsing)
    calls = bool(tools) and parsing.choice != "none"
    wanted = effort_of(body.reasoning_effort)

    def prepare(loaded: Loaded, request: Generate) -> None:
        prepared(loaded, request)
        if wanted is not None:
            think(loaded, request.options, wanted, param="reasoning_effort")

    return await respond(call, body, request, TASKS, _Chat(bool(body.logprobs), calls), prepare)


def _tools(body: ChatRequest) -> list[Tool]:
    found = []
    for number, one in enumerate(tool.function for tool in body.tools or ()):
        place = f"tools[{number}].function.name"
        found.append(Tool(one.name, one.description, one.parameters, place, bool(one.strict)))
    return found


def _parsing(body: ChatRequest, tools: Sequence[Tool]) -> Parsing:
    choice = body.tool_choice
    named = choice.function.name if isinstance(choice, NamedChoice) else None
    return parsing_of(
        tools,
        "function" if isinstance(choice, NamedChoice) else choice,
        named,
        parallel=body.parallel_tool_calls,
        param="tool_choice.function.name",
    )


class _Chat:
    """Choices of a chat; see :class:`~gpux.server.api.openai.generation.Shape`."""

    object = "chat.completion"
    chunk = "chat.completion.chunk"
    param = "messages"

    def __init__(self, logs: bool, calls: bool) -> None:
        self._logs, self._calls = logs, calls

    def whole(self, index: int, one: worker.Sequence, finish: str, log: TokenLog) -> dict[str, Any]:
        """See :class:`Shape`."""
        found = logprobs.of_chat(log.scores, log.names) if self._logs else None
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if one.calls and not one.text else one.text,
            "refusal": None,
        }
        if one.reasoning:
            message["reasoning_content"] = one.reasoning
        if one.calls:
            message["tool_calls"] = [
                {"id": made.id, "type": "function", "function": {"name": made.name, "arguments": made.arguments}}
                for made in one.calls
            ]
        return {"index": index, "message": message, "finish_reason": finish, "logprobs": found}

    def first(self, index: int) -> dict[str, Any]:
        """See :class:`Shape`."""
        return _delta(index, {"role": "assistant", "content": None if self._calls else ""})

    def pieces(self, piece: Piece) -> list[dict[str, Any]]:
        """See :class:`Shape`."""
        found = [_delta(piece.number, delta) for part in piece.parts if (delta := _of_part(part)) is not None]
        if self._logs and piece.scores:
            found = found or [_delta(piece.number, {"content": ""})]
            found[0]["logprobs"] = logprobs.of_chat(piece.scores, piece.names)
        return found

    def last(self, index: int, finish: str) -> dict[str, Any]:
        """See :class:`Shape`."""
        return {**_delta(index, {}), "finish_reason": finish}


def _of_part(part: Part) -> dict[str, Any] | None:
    """The delta of a part, if it has one."""
    if part.kind == "content":
        return {"content": part.text}
    if part.kind == "reasoning":
        return {"reasoning_content": part.text}
    if part.kind == "call":
        function = {"name": part.name, "arguments": ""}
        return {"tool_calls": [{"index": part.index, "id": part.id, "type": "function", "function": function}]}
    if part.kind == "arguments":
        return {"tool_calls": [{"index": part.index, "function": {"arguments": part.text}}]}
    return None


def _delta(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": None, "logprobs": None}


def _most(body: ChatRequest) -> int | None:
    if None not in (body.max_tokens, body.max_completion_tokens) and body.max_tokens != body.max_completion_tokens:
        raise UsageError(
            "max_tokens and max_completion_tokens differ", hint="Send one of them.", param="max_completion_tokens"
        )
    return body.max_completion_tokens or body.max_tokens


def _format(wanted: ResponseFormat) -> dict[str, Any]:
    if wanted.value is not None:
        if wanted.type != "json_object" or wanted.json_schema is not None:
            raise UsageError(
                f"response_format of the type {wanted.type} has value", hint="Remove it.", param="response_format.value"
            )
        return answer_form("response_format", "json_schema", wanted.value, wanted.pattern, schema_name="value")
    schema = None if wanted.json_schema is None else wanted.json_schema.schema
    return answer_form("response_format", wanted.type, schema, wanted.pattern, schema_name="json_schema")
