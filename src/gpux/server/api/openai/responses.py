"""``/v1/responses`` and ``/v1/responses/input_tokens``. Nothing is stored: a request has the whole conversation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.responses import Response

from gpux.errors import UsageError
from gpux.server.api.endpoint import Call
from gpux.server.api.openai.chat import TASKS
from gpux.server.api.openai.generation import BEGIN, answer_form, options_of, prepared
from gpux.server.api.openai.messages import plain
from gpux.server.api.openai.parameters import (
    Alternatives,
    Penalty,
    Sampling,
    Share,
    Stop,
    Whole,
    check,
    extension,
    ignored,
    refused,
    supported,
)
from gpux.server.api.openai.parameters import Count as Tokens
from gpux.server.api.openai.replies import Replies
from gpux.server.api.openai.responses_input import conversation
from gpux.server.api.openai.responses_output import Answer, sent
from gpux.server.api.openai.thinking import Effort, effort_of, think
from gpux.server.api.openai.tools import FunctionName, Tool, parsing_of
from gpux.server.http import event_stream, json_response, until_disconnected
from gpux.server.models import Loaded
from gpux.server.workers.messages import Count, Generate, Parsing, Piece

_LOGPROBS = "message.output_text.logprobs"
#: What else of ``include`` is accepted: a client that stores nothing sends it, and reasoning is never encrypted here.
_INCLUDED = (_LOGPROBS, "reasoning.encrypted_content")
_TOOLS = "functions, for models whose chat template has tools; with `strict`, calls have the arguments of the schema"
_CHOICE = "`required` and a named function are enforced token by token; `none` hides the tools from the model"
_STORED = "nothing is stored: send the earlier items in `input`"


class TextFormat(msgspec.Struct, forbid_unknown_fields=True):
    """``text.format``."""

    type: Literal["text", "json_object", "json_schema", "regex"]
    name: Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,64}$")] | None = None
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None
    pattern: str | None = None


class TextConfig(msgspec.Struct, forbid_unknown_fields=True):
    """``text``."""

    format: Annotated[TextFormat | None, supported("`text`, `json_object`, `json_schema`, and `regex`")] = None
    verbosity: Annotated[str | None, ignored("say it in a message", "medium")] = None


class Reasoning(msgspec.Struct, forbid_unknown_fields=True):
    """``reasoning``."""

    effort: Annotated[
        Effort | None,
        supported("by the chat template: `none` turns reasoning off, a level is its `reasoning_effort`; else refused"),
    ] = None
    summary: Annotated[str | None, ignored("reasoning is never summarized")] = None
    generate_summary: Annotated[str | None, ignored("reasoning is never summarized")] = None
    context: Annotated[str | None, ignored("the template decides which reasoning it reads", "auto")] = None
    mode: Annotated[Any, refused("set what the model's template knows with `chat_template_kwargs`", "standard")] = None


class FunctionTool(msgspec.Struct, forbid_unknown_fields=True):
    """One of ``tools``."""

    type: Annotated[Literal["function"], supported("tools that run on a server are refused")]
    name: Annotated[FunctionName, supported("letters, digits, `_`, `-` and `.`")]
    description: Annotated[str | None, supported("what the tool does")] = None
    parameters: Annotated[dict[str, Any] | None, supported("JSON schema of the arguments")] = None
    strict: Annotated[bool | None, supported("calls have the arguments of the schema, also with `auto`")] = None
    allowed_callers: Annotated[list[str] | None, ignored("the client runs the tools", ["direct"])] = None
    defer_loading: Annotated[bool | None, ignored("the model reads all tools", False)] = None
    output_schema: Annotated[dict[str, Any] | None, ignored("results are texts")] = None


class NamedChoice(msgspec.Struct, forbid_unknown_fields=True):
    """``tool_choice`` that names a function."""

    type: Literal["function"]
    name: FunctionName


Choice = Literal["none", "auto", "required"] | NamedChoice


class ResponseStreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """``stream_options`` of a response."""

    include_obfuscation: Annotated[bool | None, ignored("events are never padded", False)] = None


class ResponseRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of a request; see :mod:`gpux.server.api.openai.parameters`."""

    model: Annotated[str, supported("reference of a stored model, such as `org/name` or `org/name:int4`")]
    input: Annotated[
        str | Annotated[list[dict[str, Any]], Meta(min_length=1)],
        supported(
            "a text, or the items of a conversation: `message`, `function_call`, `function_call_output`, `reasoning`"
        ),
    ]
    instructions: Annotated[str | None, supported("the first system message")] = None
    max_output_tokens: Annotated[Tokens | None, supported("without it, what the context leaves, and at most 2,048")] = (
        None
    )
    temperature: Annotated[
        Annotated[float, Meta(ge=0, le=2)] | None,
        supported("0: always the most likely token; null: as the model's `generation_config.json` says"),
    ] = None
    top_p: Annotated[Share | None, supported("0 leaves the most likely token only")] = None
    text: Annotated[
        TextConfig | None, supported("`format`, enforced token by token: `json_object`, `json_schema` and `regex`")
    ] = None
    stream: Annotated[bool | None, supported("server-sent events; see [Events](#events)")] = None
    include: Annotated[
        list[str] | None,
        supported(
            "`message.output_text.logprobs`; `reasoning.encrypted_content` has no effect; other values are refused"
        ),
    ] = None
    top_logprobs: Annotated[Alternatives | None, supported("of each token of the answer")] = None
    tools: Annotated[list[FunctionTool] | None, supported(_TOOLS)] = None
    tool_choice: Annotated[Choice | None, supported(_CHOICE)] = None
    parallel_tool_calls: Annotated[
        bool | None, supported("`false` limits calls that are enforced to one; Llama 3 always writes one")
    ] = None
    reasoning: Annotated[Reasoning | None, supported("`effort`; the reasoning is an item of its own")] = None

    store: Annotated[bool | None, ignored("nothing is stored, and answers have `store: false`")] = None
    metadata: Annotated[dict[str, str] | None, ignored("returned with the answer")] = None
    stream_options: Annotated[ResponseStreamOptions | None, ignored("events are never padded")] = None
    service_tier: Annotated[str | None, ignored("there is one tier", "auto", "default")] = None
    truncation: Annotated[str | None, ignored("a conversation is never cut", "disabled")] = None
    max_tool_calls: Annotated[Whole | None, ignored("no tool runs on the server")] = None
    safety_identifier: Annotated[str | None, ignored("not stored")] = None
    user: Annotated[str | None, ignored("not stored")] = None
    prompt_cache_key: Annotated[str | None, ignored("prompts that begin alike are found without it")] = None
    prompt_cache_retention: Annotated[str | None, ignored("prompts are kept in memory", "in_memory")] = None

    previous_response_id: Annotated[Any, refused(_STORED)] = None
    conversation: Annotated[Any, refused(_STORED)] = None
    background: Annotated[Any, refused("wait for the answer, or stream it", False)] = None
    background_options: Annotated[Any, refused("wait for the answer, or stream it")] = None
    prompt: Annotated[Any, refused("send the text of the prompt in `input`")] = None
    context_management: Annotated[Any, refused("send the items that the model shall read", [])] = None
    image: Annotated[Any, refused("answers are texts")] = None
    moderation: Annotated[Any, refused("classify texts with a model of text-classification")] = None
    prompt_cache_options: Annotated[Any, refused("prompts that begin alike are found without it")] = None
    access_programs: Annotated[Any, refused("omit it")] = None

    # Not of OpenAI's API
    presence_penalty: Annotated[Penalty | None, extension("as of chats")] = None
    frequency_penalty: Annotated[Penalty | None, extension("as of chats")] = None
    seed: Annotated[Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)] | None, extension("as of chats")] = None
    stop: Annotated[Stop | None, extension("as of chats")] = None
    top_k: Annotated[Annotated[int, Meta(ge=-1, le=(1 << 31) - 1)] | None, extension("as of chats")] = None
    min_p: Annotated[Share | None, extension("as of chats")] = None
    repetition_penalty: Annotated[Annotated[float, Meta(gt=0)] | None, extension("as of chats")] = None
    no_repeat_ngram_size: Annotated[Whole | None, extension("as of chats")] = None
    min_tokens: Annotated[Whole | None, extension("tokens before which no answer ends")] = None
    chat_template_kwargs: Annotated[
        dict[str, Any] | None, extension("variables of the model's chat template, such as `enable_thinking`")
    ] = None


class InputTokensRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of a count: the parameters of :class:`ResponseRequest` that decide about the prompt."""

    model: Annotated[str, supported("reference of a stored model")]
    input: Annotated[str | Annotated[list[dict[str, Any]], Meta(min_length=1)], supported("as of a response")]
    instructions: Annotated[str | None, supported("the first system message")] = None
    chat_template_kwargs: Annotated[dict[str, Any] | None, extension("as of a response")] = None
    text: Annotated[TextConfig | None, ignored("a format is not part of the prompt")] = None
    reasoning: Annotated[Reasoning | None, supported("as of a response")] = None
    truncation: Annotated[str | None, ignored("a conversation is never cut", "disabled")] = None
    parallel_tool_calls: Annotated[bool | None, ignored("it is not part of the prompt")] = None
    personality: Annotated[Any, refused("say it in `instructions`")] = None
    previous_response_id: Annotated[Any, refused(_STORED)] = None
    conversation: Annotated[Any, refused(_STORED)] = None
    tools: Annotated[list[FunctionTool] | None, supported("as of a response")] = None
    tool_choice: Annotated[Choice | None, supported("`none` hides the tools from the model")] = None


async def responses(call: Call) -> Response:
    """Answer a conversation."""
    body: ResponseRequest = call.body
    logs = _check(body)
    options = options_of(
        _sampling(body),
        most=body.max_output_tokens,
        logprobs=(body.top_logprobs or 0) if logs else None,
        bias=None,
    )
    if body.text is not None and body.text.format is not None:
        options["response_format"] = _format(body.text.format)
    if body.chat_template_kwargs:
        options["chat_template_kwargs"] = body.chat_template_kwargs
    messages = plain(conversation(body.input, body.instructions))
    tools = _tools(body)
    if tools:
        options["tools"] = [tool.described for tool in tools]
    parsing = _parsing(body, tools)
    pieces = bool(body.stream) or logs
    request = Generate(0, [messages], options, echo_tokens=logs, pieces=pieces, parsing=parsing)
    answer = Answer(_echo(body), logs)
    wanted = None if body.reasoning is None else effort_of(body.reasoning.effort)

    def prepare(loaded: Loaded, request: Generate) -> None:
        prepared(loaded, request)
        if wanted is not None:
            think(loaded, request.options, wanted, param="reasoning.effort")

    replies = Replies(call.core, body.model, TASKS, request, prepare, "input", body.__struct_fields__)
    streams = False
    try:
        if not body.stream:
            return await until_disconnected(call.request, _whole(replies, answer, logs))
        await until_disconnected(call.request, replies.begin(BEGIN))
        streams = True
        return event_stream(_events(replies, answer), replies.close, on_error=answer.failed)
    finally:
        if not streams:
            replies.close()


async def input_tokens(call: Call) -> Response:
    """Count the tokens of a conversation."""
    body: InputTokensRequest = call.body
    check(body)
    if body.reasoning is not None:
        check(body.reasoning, "reasoning.")
    options: dict[str, Any] = {}
    if body.chat_template_kwargs is not None:
        options["chat_template_kwargs"] = body.chat_template_kwargs
    tools = _tools(body)
    if _parsing(body, tools).choice != "none" and tools:
        options["tools"] = [tool.described for tool in tools]
    request = Count(0, [plain(conversation(body.input, body.instructions))], options)
    wanted = None if body.reasoning is None else effort_of(body.reasoning.effort)

    async def count() -> int:
        async with call.core.models.lease(body.model, TASKS) as loaded:
            if wanted is not None:
                think(loaded, options, wanted, param="reasoning.effort")
            return (await call.core.count(loaded, request)).tokens[0]

    found = await until_disconnected(call.request, count())
    return json_response({"object": "response.input_tokens", "input_tokens": found})


async def _whole(replies: Replies, answer: Answer, logs: bool) -> Response:
    answer.begin()
    async for reply in replies:
        if isinstance(reply, Piece):
            answer.add(reply)
            continue
        if not logs:
            answer.add_parts(reply.sequences[0].parts)
        answer.end(reply)
    return json_response(answer.response())


async def _events(replies: Replies, answer: Answer) -> AsyncIterator[bytes]:
    yield sent(answer.begin())
    async for reply in replies:
        if found := answer.add(reply) if isinstance(reply, Piece) else answer.end(reply):
            yield sent(found)
    yield b"data: [DONE]\n\n"


def _tools(body: ResponseRequest | InputTokensRequest) -> list[Tool]:
    """The tools of a request.

    Raises:
        UsageError: one has what is not supported.
    """
    found = []
    for number, one in enumerate(body.tools or ()):
        check(one, f"tools[{number}].")
        found.append(Tool(one.name, one.description, one.parameters, f"tools[{number}].name", bool(one.strict)))
    return found


def _parsing(body: ResponseRequest | InputTokensRequest, tools: Sequence[Tool]) -> Parsing:
    choice, param = body.tool_choice, "tool_choice.name"
    if isinstance(choice, NamedChoice):
        return parsing_of(tools, "function", choice.name, parallel=body.parallel_tool_calls, param=param)
    return parsing_of(tools, choice, parallel=body.parallel_tool_calls, param=param)


def _check(body: ResponseRequest) -> bool:
    """Refuse what a request must not contain; whether log probabilities are requested."""
    check(body)
    if body.text is not None:
        check(body.text, "text.")
    if body.reasoning is not None:
        check(body.reasoning, "reasoning.")
    if body.stream_options is not None:
        check(body.stream_options, "stream_options.")
        if not body.stream:
            raise UsageError("stream_options needs stream: true", hint="Omit it.", param="stream_options")
    for number, name in enumerate(body.include or ()):
        if name not in _INCLUDED:
            raise UsageError(
                f"include[{number}] is not supported", hint=f"Only {_LOGPROBS} is.", param=f"include[{number}]"
            )
    return body.top_logprobs is not None or _LOGPROBS in (body.include or ())


def _sampling(body: ResponseRequest) -> Sampling:
    """What decides about tokens, in the class that chats have for it."""
    names = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "stop", "top_k", "min_p")
    more = ("repetition_penalty", "no_repeat_ngram_size", "min_tokens")
    return Sampling(model=body.model, **{name: getattr(body, name) for name in names + more})


def _format(wanted: TextFormat) -> dict[str, Any]:
    return answer_form("text.format", wanted.type, wanted.schema, wanted.pattern, schema_name="schema")


def _echo(body: ResponseRequest) -> dict[str, Any]:
    """The parameters that a response repeats. Types of clients need numbers where the request has none."""
    wanted = None if body.text is None else body.text.format
    form: dict[str, Any] = {"type": "text"}
    if wanted is not None:
        form = {key: value for key, value in msgspec.structs.asdict(wanted).items() if value is not None}
        if wanted.type == "json_schema":
            absent = {"name": wanted.name or "answer", "description": None, "strict": False}
            form = absent | form
    return {
        "model": body.model,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "presence_penalty": body.presence_penalty or 0.0,
        "frequency_penalty": body.frequency_penalty or 0.0,
        "top_logprobs": body.top_logprobs or 0,
        "text": {"format": form, "verbosity": "medium"},
        "tools": [_echoed(tool) for tool in body.tools or ()],
        "tool_choice": body.tool_choice or "auto",
        "parallel_tool_calls": True if body.parallel_tool_calls is None else body.parallel_tool_calls,
        "reasoning": {"effort": None if body.reasoning is None else body.reasoning.effort, "summary": None},
        "truncation": "disabled",
        "store": False,
        "background": False,
        "service_tier": "default",
        "previous_response_id": None,
        "metadata": body.metadata or {},
        "safety_identifier": body.safety_identifier,
        "prompt_cache_key": body.prompt_cache_key,
        "user": body.user,
    }


def _echoed(tool: FunctionTool) -> dict[str, Any]:
    names = ("type", "name", "description", "parameters", "strict")
    return {name: getattr(tool, name) for name in names}
