"""``/v1/chat/completions``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.responses import Response

from gpux.errors import UsageError
from gpux.server.api.endpoint import Call
from gpux.server.api.openai import logprobs
from gpux.server.api.openai.generation import TokenLog, options_of, respond
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
from gpux.server.workers.messages import Generate, Piece

TASKS = ("text-generation",)
_NO_TOOLS = "describe the tools in a message, and request their arguments by `response_format`"


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
            'and `{"type": "regex", "pattern": …}`'
        ),
    ] = None

    metadata: Annotated[dict[str, str] | None, ignored("not stored")] = None
    store: Annotated[bool | None, ignored("nothing is stored", False)] = None
    service_tier: Annotated[str | None, ignored("there is one tier", "auto", "default")] = None
    modalities: Annotated[list[str] | None, ignored("answers are texts", ["text"])] = None
    verbosity: Annotated[str | None, ignored("say it in a message", "medium")] = None
    safety_identifier: Annotated[str | None, ignored("not stored")] = None
    prompt_cache_key: Annotated[str | None, ignored("prompts that begin alike are found without it")] = None
    prompt_cache_retention: Annotated[str | None, ignored("prompts are kept in memory", "in_memory")] = None
    parallel_tool_calls: Annotated[bool | None, ignored("without tools it means nothing")] = None

    tools: Annotated[Any, refused(_NO_TOOLS, [])] = None
    tool_choice: Annotated[Any, refused(_NO_TOOLS, "none", "auto")] = None
    functions: Annotated[Any, refused(_NO_TOOLS, [])] = None
    function_call: Annotated[Any, refused(_NO_TOOLS, "none", "auto")] = None
    reasoning_effort: Annotated[Any, refused("set what the model's template knows with `chat_template_kwargs`")] = None
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
    request = Generate(0, [plain(body.messages)], options, echo_tokens=bool(body.logprobs))
    return await respond(call, body, request, TASKS, _Chat(bool(body.logprobs)))


class _Chat:
    """Choices of a chat; see :class:`~gpux.server.api.openai.generation.Shape`."""

    object = "chat.completion"
    chunk = "chat.completion.chunk"
    param = "messages"

    def __init__(self, logs: bool) -> None:
        self._logs = logs

    def whole(self, index: int, text: str, finish: str, log: TokenLog) -> dict[str, Any]:
        """See :class:`Shape`."""
        found = logprobs.of_chat(log.scores, log.names) if self._logs else None
        message = {"role": "assistant", "content": text, "refusal": None}
        return {"index": index, "message": message, "finish_reason": finish, "logprobs": found}

    def first(self, index: int) -> dict[str, Any]:
        """See :class:`Shape`."""
        return _delta(index, {"role": "assistant", "content": ""})

    def piece(self, piece: Piece) -> dict[str, Any]:
        """See :class:`Shape`."""
        found = logprobs.of_chat(piece.scores, piece.names) if self._logs else None
        return {**_delta(piece.number, {"content": piece.text}), "logprobs": found}

    def last(self, index: int, finish: str) -> dict[str, Any]:
        """See :class:`Shape`."""
        return {**_delta(index, {}), "finish_reason": finish}


def _delta(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": None, "logprobs": None}


def _most(body: ChatRequest) -> int | None:
    if None not in (body.max_tokens, body.max_completion_tokens) and body.max_tokens != body.max_completion_tokens:
        raise UsageError(
            "max_tokens and max_completion_tokens differ", hint="Send one of them.", param="max_completion_tokens"
        )
    return body.max_completion_tokens or body.max_tokens


def _format(wanted: ResponseFormat) -> dict[str, Any]:
    """As the pipeline takes it.

    Raises:
        UsageError: the part that the type needs is missing.
    """
    needed = {"json_schema": "json_schema", "regex": "pattern"}.get(wanted.type)
    for part in ("json_schema", "pattern"):
        given = getattr(wanted, part) is not None
        if given != (part == needed):
            raise UsageError(
                f"response_format of the type {wanted.type} {'has' if given else 'needs'} {part}",
                hint="Remove it." if given else "Add it.",
                param=f"response_format.{part}",
            )
    if wanted.json_schema is not None:
        return {"type": "json_schema", "json_schema": {"schema": wanted.json_schema.schema}}
    return {"type": wanted.type, **({} if wanted.pattern is None else {"pattern": wanted.pattern})}
