"""What chats and completions have in common: the options of a generation, the stream of its events, its usage."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.responses import Response

from gpux.errors import GpuxError, UsageError
from gpux.server.api.endpoint import Call
from gpux.server.api.openai.errors import error_body, status_of
from gpux.server.api.openai.parameters import Bias, Sampling, check
from gpux.server.api.openai.replies import Replies
from gpux.server.http import event, event_stream, json_response, until_disconnected
from gpux.server.models import Loaded
from gpux.server.security.redaction import public
from gpux.server.workers import messages
from gpux.server.workers.messages import Generate, Generated, Piece

#: Seconds that a stream waits for its first text, so that an error before has an HTTP status.
BEGIN = 15.0
#: Tokens of an answer to a chat at most, where neither the request nor the context sets a smaller number.
DEFAULT_TOKENS = 2048
#: The least ``top_p`` of the model, which leaves the most likely token.
_LEAST_SHARE = 1e-9
_LARGEST_SEED = 1 << 63


@dataclass
class TokenLog:
    """The tokens of one sequence with their log probabilities, as far as they have arrived."""

    scores: list[Any] = field(default_factory=list)  #: as in :class:`Piece`
    names: list[str] = field(default_factory=list)

    def add(self, piece: Piece) -> None:
        """Append those of a piece."""
        self.scores += piece.scores
        self.names += piece.names


class Shape(Protocol):
    """How an endpoint writes the choices of its answers and chunks; ``index`` is the number of the sequence."""

    object: str  #: of an answer
    chunk: str  #: of a chunk
    param: str  #: the parameter with the input

    def whole(self, index: int, one: messages.Sequence, finish: str, log: TokenLog) -> dict[str, Any]:
        """The choice of an answer."""

    def first(self, index: int) -> dict[str, Any] | None:
        """The choice that begins a stream, if there is one."""

    def pieces(self, piece: Piece) -> list[dict[str, Any]]:
        """The choices of chunks with more text; one for each of its parts."""

    def last(self, index: int, finish: str) -> dict[str, Any]:
        """The choice of the chunk that ends a sequence."""


async def respond(
    call: Call,
    body: Sampling,
    request: Generate,
    tasks: Sequence[str],
    shape: Shape,
    prepare: Callable[[Loaded, Generate], None] | None = None,
) -> Response:
    """Generate and answer, at once or as a stream.

    Args:
        call: the call of the endpoint.
        body: of the request.
        request: for the worker.
        tasks: of models that can answer.
        shape: of the endpoint.
        prepare: completes the request by what is known of its model; None: :func:`prepared`.

    Raises:
        UsageError: parameters contradict each other.
        GpuxError: nothing was generated.
    """
    if body.stream_options is not None:
        check(body.stream_options, "stream_options.")
        if not body.stream:
            raise UsageError("stream_options needs stream: true", hint="Omit it.", param="stream_options")
    count = len(request.inputs) * (body.n or 1)
    request.pieces = bool(body.stream) or request.echo_tokens
    replies = Replies(call.core, body.model, tasks, request, prepare or prepared, shape.param, body.__struct_fields__)
    streams = False
    try:
        if not body.stream:
            return await until_disconnected(call.request, _whole(replies, count, body, shape))
        await until_disconnected(call.request, replies.begin(BEGIN))
        streams = True
        return event_stream(_events(replies, count, body, shape), replies.close, on_error=_error_event)
    finally:
        if not streams:
            replies.close()


async def _whole(replies: Replies, count: int, body: Sampling, shape: Shape) -> Response:
    logs = [TokenLog() for _ in range(count)]
    async for reply in replies:
        if isinstance(reply, Piece):
            logs[reply.number].add(reply)
            continue
        choices = [
            shape.whole(index, one, finish_reason(one), logs[index]) for index, one in enumerate(reply.sequences)
        ]
        return json_response({**_head(body, shape.object), "choices": choices, "usage": usage(reply, body.n or 1)})
    raise AssertionError("the replies ended before the result")


async def _events(replies: Replies, count: int, body: Sampling, shape: Shape) -> AsyncIterator[bytes]:
    options = body.stream_options
    counts = options is not None and bool(options.include_usage)
    head = {**_head(body, shape.chunk), **({"usage": None} if counts else {})}
    for index in range(count):
        if (first := shape.first(index)) is not None:
            yield event({**head, "choices": [first]})
    async for reply in replies:
        if isinstance(reply, Piece):
            for choice in shape.pieces(reply):
                yield event({**head, "choices": [choice]})
            continue
        for index, one in enumerate(reply.sequences):
            yield event({**head, "choices": [shape.last(index, finish_reason(one))]})
        if counts:
            yield event({**head, "choices": [], "usage": usage(reply, body.n or 1)})
    yield b"data: [DONE]\n\n"


def _error_event(error: GpuxError) -> bytes:
    return event(error_body(public(error), status_of(error)))


def _head(body: Sampling, kind: str) -> dict[str, Any]:
    prefix = "chatcmpl" if kind.startswith("chat.") else "cmpl"
    return {
        "id": f"{prefix}-{secrets.token_hex(12)}",
        "object": kind,
        "created": int(time.time()),
        "model": body.model,
    }


def options_of(body: Sampling, *, most: int | None, logprobs: int | None, bias: Bias | None) -> dict[str, Any]:
    """The options of the pipeline's call for a request.

    Args:
        body: the request.
        most: tokens of an answer at most; None: see :data:`DEFAULT_TOKENS`.
        logprobs: alternatives of each token that are reported; None: no log probabilities.
        bias: token id -> number that is added to its score.

    Raises:
        UsageError: the parameters contradict each other.
    """
    several = (body.n or 1) > 1
    if several and body.temperature == 0:
        raise UsageError(
            "n is above 1 and temperature is 0, so that all answers would be equal",
            hint="Set temperature to a number above 0, or n to 1.",
            param="n",
        )
    if most is not None and (body.min_tokens or 0) > most:
        raise UsageError("min_tokens is greater than the tokens of the answer", hint="Lower it.", param="min_tokens")
    found: dict[str, Any] = {
        "max_new_tokens": most,
        "min_new_tokens": body.min_tokens,
        "num_return_sequences": body.n,
        "do_sample": True if several else None,
        "temperature": body.temperature,
        "top_p": None if body.top_p is None else max(body.top_p, _LEAST_SHARE),
        "top_k": None if body.top_k is None else max(body.top_k, 0),
        "min_p": body.min_p,
        "typical_p": body.typical_p,
        "repetition_penalty": body.repetition_penalty,
        "no_repeat_ngram_size": body.no_repeat_ngram_size,
        "presence_penalty": body.presence_penalty,
        "frequency_penalty": body.frequency_penalty,
        "seed": None if body.seed is None else body.seed % _LARGEST_SEED,
        "stop": ([body.stop] if isinstance(body.stop, str) else body.stop) or None,
        "logprobs": logprobs,
        "logit_bias": _bias(bias),
    }
    return {name: value for name, value in found.items() if value is not None}


def _bias(bias: Bias | None) -> dict[int, float] | None:
    if not bias:
        return None
    try:
        return {int(token): value for token, value in bias.items()}
    except ValueError:
        raise UsageError(
            "logit_bias has a key that is not a token id",
            hint='Give ids of the model: {"42": -100}.',
            param="logit_bias",
        ) from None


def prepared(loaded: Loaded, request: Generate) -> None:
    """Complete a request by what is known of its model."""
    if "max_new_tokens" not in request.options:
        context = loaded.worker.info.context_length
        request.options["max_new_tokens"] = min(context or DEFAULT_TOKENS, DEFAULT_TOKENS)


def finish_reason(one: messages.Sequence) -> str:
    """``length`` for an answer that its length, the context or a time limit ended; ``tool_calls``, or ``stop``."""
    if one.finish_reason in ("length", "deadline"):
        return "length"
    return "tool_calls" if one.calls else "stop"


def usage(found: Generated, copies: int) -> Mapping[str, Any]:
    """Numbers of tokens; those of a prompt count once, for all of its answers."""
    prompts = found.sequences[::copies]
    read = sum(one.prompt_tokens for one in prompts)
    written = sum(one.tokens for one in found.sequences)
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": sum(one.cached_tokens for one in prompts)},
        "completion_tokens_details": {"reasoning_tokens": sum(one.reasoning_tokens for one in found.sequences)},
    }


def answer_form(
    param: str, kind: str, schema: Mapping[str, Any] | None, pattern: str | None, *, schema_name: str
) -> dict[str, Any]:
    """The form of an answer as the pipeline takes it.

    Args:
        param: name of the parameter in the request.
        kind: ``text``, ``json_object``, ``json_schema`` or ``regex``.
        schema: a JSON schema, for the kind ``json_schema``.
        pattern: a regular expression, for the kind ``regex``.
        schema_name: name of the part of ``param`` that has the schema.

    Raises:
        UsageError: the part that the kind needs is missing, or there is one that it does not take.
    """
    needed = {"json_schema": schema_name, "regex": "pattern"}.get(kind)
    for part, value in ((schema_name, schema), ("pattern", pattern)):
        if (value is not None) != (part == needed):
            raise UsageError(
                f"{param} of the type {kind} {'needs' if value is None else 'has'} {part}",
                hint="Add it." if value is None else "Remove it.",
                param=f"{param}.{part}",
            )
    if schema is not None:
        return {"type": "json_schema", "json_schema": {"schema": schema}}
    return {"type": kind, **({} if pattern is None else {"pattern": pattern})}
