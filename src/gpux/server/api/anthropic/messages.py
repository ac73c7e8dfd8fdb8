"""``/v1/messages``."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.responses import Response

from gpux.errors import GpuxError
from gpux.server.api.anthropic.content import InputMessage, TextBlock, conversation
from gpux.server.api.anthropic.counts import counted
from gpux.server.api.anthropic.errors import REQUEST_ID, error_body, request_id, status_of
from gpux.server.api.anthropic.tools import CHOICE, TOOLS, Thinking, Tool, ToolChoice, put_tools, wanted_thinking
from gpux.server.api.endpoint import Call
from gpux.server.api.openai.chat import TASKS
from gpux.server.api.openai.generation import BEGIN, options_of, prepared
from gpux.server.api.openai.messages import plain
from gpux.server.api.openai.parameters import (
    Count,
    Sampling,
    Share,
    Text,
    Whole,
    check,
    extension,
    ignored,
    refused,
    supported,
)
from gpux.server.api.openai.replies import Replies
from gpux.server.api.openai.thinking import levels_of, think
from gpux.server.http import event_stream, json_response, until_disconnected
from gpux.server.models import Loaded
from gpux.server.security.redaction import public
from gpux.server.workers import messages as worker
from gpux.server.workers.messages import Generate, Part, Piece


class OutputFormat(msgspec.Struct, forbid_unknown_fields=True):
    """``output_config.format``."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(msgspec.Struct, forbid_unknown_fields=True):
    """``output_config``."""

    format: Annotated[OutputFormat | None, supported("a JSON schema, enforced token by token")] = None
    effort: Annotated[
        Literal["low", "medium", "high", "xhigh", "max"] | None,
        supported("the template's `reasoning_effort`; without one, `high` has no effect, and others are refused"),
    ] = None
    task_budget: Annotated[Any, refused("set `max_tokens`")] = None


class MessagesRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of a request; see :mod:`gpux.server.api.openai.parameters`."""

    model: Annotated[str, supported("reference of a stored model, such as `org/name` or `org/name:int4`")]
    messages: Annotated[
        Annotated[list[InputMessage], Meta(min_length=1)],
        supported("blocks `text`, `thinking`, `tool_use` and `tool_result`; a last one of the assistant is continued"),
    ]
    max_tokens: Annotated[Count, supported("required, as in Anthropic's API")]
    system: Annotated[str | list[TextBlock] | None, supported("a text or blocks")] = None
    stop_sequences: Annotated[list[Text] | None, supported("any number of texts; not part of the answer")] = None
    temperature: Annotated[
        Annotated[float, Meta(ge=0, le=1)] | None,
        supported("0: always the most likely token; null: as the model's `generation_config.json` says"),
    ] = None
    top_p: Annotated[Share | None, supported("0 leaves the most likely token only")] = None
    top_k: Annotated[Whole | None, supported("sample among this number of tokens; 0: all")] = None
    stream: Annotated[bool | None, supported("server-sent events; see [Events](#events)")] = None
    output_config: Annotated[OutputConfig | None, supported("`format`: a JSON schema, enforced token by token")] = None
    tools: Annotated[list[Tool] | None, supported(TOOLS)] = None
    tool_choice: Annotated[ToolChoice | None, supported(CHOICE)] = None
    thinking: Annotated[Thinking | None, supported("see below; by default as the chat template has it")] = None

    metadata: Annotated[Any, ignored("not stored")] = None
    service_tier: Annotated[str | None, ignored("there is one tier", "auto", "standard_only")] = None
    speed: Annotated[str | None, ignored("there is one speed", "standard")] = None
    cache_control: Annotated[Any, ignored("prompts that begin alike are found without it")] = None
    inference_geo: Annotated[Any, ignored("the server's machine answers")] = None
    diagnostics: Annotated[Any, ignored("answers have none")] = None
    user_profile_id: Annotated[str | None, ignored("not stored")] = None
    workspace_id: Annotated[str | None, ignored("not stored")] = None

    container: Annotated[Any, refused("no tool runs on the server")] = None

    # Not of Anthropic's API
    seed: Annotated[Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)] | None, extension("as of chats")] = None
    chat_template_kwargs: Annotated[
        dict[str, Any] | None, extension("variables of the model's chat template, such as `enable_thinking`")
    ] = None


async def messages(call: Call) -> Response:
    """Answer a conversation."""
    body: MessagesRequest = call.body
    check(body)
    prompt, options = plain(conversation(body.system, body.messages)), _options(body)
    parsing = put_tools(options, body.tools, body.tool_choice)
    wanted = wanted_thinking(body.thinking)

    def prepare(loaded: Loaded, request: Generate) -> None:
        prepared(loaded, request)
        if wanted is not None:
            think(loaded, request.options, wanted, param="thinking")
        effort = None if body.output_config is None else body.output_config.effort
        if effort is not None and (effort != "high" or levels_of(loaded)):
            think(loaded, request.options, effort, param="output_config.effort")

    request = Generate(0, [prompt], options, pieces=bool(body.stream), parsing=parsing)

    async def count(loaded: Loaded) -> int:
        return await counted(call.core, loaded, prompt, request.options, parsing)

    # The first event of a stream has the tokens of the prompt, and replies have them at their end.
    counting = count if body.stream else None
    names = body.__struct_fields__
    replies = Replies(call.core, body.model, TASKS, request, prepare, "messages", names, counting=counting)
    answer = _Answer(body)
    streams = False
    try:
        if not body.stream:
            response = await until_disconnected(call.request, _whole(replies, answer))
        else:
            await until_disconnected(call.request, replies.begin(BEGIN))
            streams = True
            response = event_stream(_events(replies, answer), replies.close, on_error=_error_event)
        response.headers[REQUEST_ID] = request_id()
        return response
    finally:
        if not streams:
            replies.close()


def _options(body: MessagesRequest) -> dict[str, Any]:
    sampling = Sampling(
        model=body.model,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        seed=body.seed,
        stop=body.stop_sequences,
    )
    options = options_of(sampling, most=body.max_tokens, logprobs=None, bias=None)
    if body.output_config is not None:
        check(body.output_config, "output_config.")
        if body.output_config.format is not None:
            schema = body.output_config.format.schema
            options["response_format"] = {"type": "json_schema", "json_schema": {"schema": schema}}
    if body.chat_template_kwargs:
        options["chat_template_kwargs"] = body.chat_template_kwargs
    return options


async def _whole(replies: Replies, answer: _Answer) -> Response:
    async for reply in replies:
        if not isinstance(reply, Piece):
            return json_response(answer.whole(reply.sequences[0]))
    raise AssertionError("the replies ended before the result")


async def _events(replies: Replies, answer: _Answer) -> AsyncIterator[bytes]:
    yield _sent({"type": "message_start", "message": answer.message([], _usage(replies.prompt_tokens, 0))})
    yield _sent({"type": "ping"})
    blocks = _Blocks()
    async for reply in replies:
        if isinstance(reply, Piece):
            found = b"".join(_sent(event) for part in reply.parts for event in blocks.add(part))
            if found:
                yield found
            continue
        [one] = reply.sequences
        for event in blocks.end():
            yield _sent(event)
        yield _sent({"type": "message_delta", "delta": answer.stopped(one), "usage": _usage_of(one)})
        yield _sent({"type": "message_stop"})


class _Blocks:
    """The events of the blocks of a message; one block is open at a time."""

    def __init__(self) -> None:
        self._index = -1  #: of the last block
        self._kind: str | None = None  #: of the open one

    def add(self, part: Part) -> Iterator[dict[str, Any]]:
        """More of the answer."""
        if part.kind == "call":
            yield from self._begin("tool_use", _use(part.id, part.name, {}))
        elif part.kind == "arguments":
            yield self._delta({"type": "input_json_delta", "partial_json": part.text})
        elif part.kind == "end":
            yield from self.end()
        elif part.kind == "reasoning":
            if self._kind != "thinking":
                yield from self._begin("thinking", _thought(""))
            yield self._delta({"type": "thinking_delta", "thinking": part.text})
        else:
            if self._kind != "text":
                yield from self._begin("text", _block(""))
            yield self._delta({"type": "text_delta", "text": part.text})

    def end(self) -> Iterator[dict[str, Any]]:
        """The open block, if there is one, has ended."""
        if self._kind is not None:
            self._kind = None
            yield {"type": "content_block_stop", "index": self._index}

    def _begin(self, kind: str, block: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from self.end()
        self._kind, self._index = kind, self._index + 1
        yield {"type": "content_block_start", "index": self._index, "content_block": block}

    def _delta(self, delta: dict[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}


class _Answer:
    """The message that answers a request."""

    def __init__(self, body: MessagesRequest) -> None:
        self._body = body
        self._id = f"msg_{secrets.token_hex(12)}"

    def whole(self, one: worker.Sequence) -> dict[str, Any]:
        """The message after its end."""
        content = [_thought(one.reasoning)] if one.reasoning else []
        content += [_block(one.text)] if one.text else []
        content += [_use(made.id, made.name, _object(made.arguments)) for made in one.calls]
        return {**self.message(content, _usage_of(one)), **self.stopped(one)}

    def message(self, content: list[Any], usage: dict[str, Any]) -> dict[str, Any]:
        """The message before its end."""
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._body.model,
            "content": content,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }

    def stopped(self, one: worker.Sequence) -> dict[str, Any]:
        """Why the message ended."""
        reason, text = "end_turn", None
        if one.finish_reason in ("length", "deadline"):
            full = one.finish_reason == "length" and one.tokens < self._body.max_tokens
            reason = "model_context_window_exceeded" if full else "max_tokens"
        elif one.calls:
            reason = "tool_use"
        elif one.finish_reason == "stop" and one.stopped_by in (self._body.stop_sequences or ()):
            reason, text = "stop_sequence", one.stopped_by
        return {"stop_reason": reason, "stop_sequence": text}


def _block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _thought(text: str) -> dict[str, Any]:
    """Reasoning, without a signature, as nothing is checked when it is sent back."""
    return {"type": "thinking", "thinking": text, "signature": ""}


def _use(id: str, name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """A call, with an id as clients know them."""
    return {"type": "tool_use", "id": f"toolu_{id.removeprefix('call_')}", "name": name, "input": value}


def _object(arguments: str) -> dict[str, Any]:
    """The input of a call; empty where the limit of tokens has cut it."""
    try:
        return msgspec.json.decode(arguments, type=dict[str, Any])
    except msgspec.DecodeError:
        return {}


def _usage_of(one: worker.Sequence) -> dict[str, Any]:
    details = {"thinking_tokens": one.reasoning_tokens}
    return _usage(one.prompt_tokens, one.tokens, one.cached_tokens) | {"output_tokens_details": details}


def _usage(read: int, written: int, cached: int = 0) -> dict[str, Any]:
    """Anthropic's API counts the tokens that were not read again apart from the others."""
    return {
        "input_tokens": read - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": written,
    }


def _sent(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\n".encode() + b"data: " + msgspec.json.encode(event) + b"\n\n"


def _error_event(error: GpuxError) -> bytes:
    return _sent(dict(error_body(public(error), status_of(error))))
