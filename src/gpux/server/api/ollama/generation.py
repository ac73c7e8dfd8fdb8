"""What ``/api/generate`` and ``/api/chat`` have in common: loading by empty requests, lines of a stream, counts."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from gpux.errors import GpuxError, UsageError
from gpux.server.api.endpoint import Call
from gpux.server.api.ollama.errors import error_body, status_of
from gpux.server.api.openai import logprobs
from gpux.server.api.openai.generation import BEGIN, DEFAULT_TOKENS, finish_reason
from gpux.server.api.openai.replies import Replies
from gpux.server.http import json_response, line, line_stream, until_disconnected
from gpux.server.models import Loaded
from gpux.server.security.redaction import public
from gpux.server.workers.messages import Generate, Generated, Piece

_NANO = 1_000_000_000


@dataclass
class Exchange:
    """One request for generated text.

    Args:
        model: its name in the request, which the answers repeat.
        content: the part of an answer, or of a line, with this text.
        param: the parameter with the input.
        stream: answer in lines.
        keep_alive: seconds; None: the server's setting.
        logs: report log probabilities.
        prepare: completes the request by what is known of its model.
    """

    model: str
    content: Callable[[str], dict[str, Any]]
    param: str
    stream: bool
    keep_alive: float | None
    logs: bool = False
    prepare: Callable[[Loaded, Generate], None] | None = None
    began: float = field(default_factory=time.monotonic)
    leased: float | None = None

    def head(self, text: str) -> dict[str, Any]:
        """What every line begins with."""
        return {"model": self.model, "created_at": now(), **self.content(text)}

    def end(self, reason: str, found: Generated) -> dict[str, Any]:
        """What ends the answer; durations in nanoseconds. None is 0, since clients divide by them."""
        one, timing = found.sequences[0], found.timing
        leased = self.began if self.leased is None else self.leased
        return {
            "done": True,
            "done_reason": reason,
            "total_duration": nanoseconds(time.monotonic() - self.began),
            "load_duration": nanoseconds(leased - self.began),
            "prompt_eval_count": one.prompt_tokens,
            "prompt_eval_duration": nanoseconds(timing.prefill),
            "eval_count": one.tokens,
            "eval_duration": nanoseconds(timing.decode),
        }

    def prepared(self, loaded: Loaded, request: Generate) -> None:
        """Complete the request when its model is loaded."""
        self.leased = time.monotonic()
        context = loaded.worker.info.context_length or DEFAULT_TOKENS
        most = request.options.get("max_new_tokens", min(context, DEFAULT_TOKENS))
        request.options["max_new_tokens"] = context if most == math.inf else most
        if self.prepare is not None:
            self.prepare(loaded, request)


async def respond(call: Call, exchange: Exchange, request: Generate, tasks: Sequence[str]) -> Response:
    """Generate and answer, at once or line by line.

    Raises:
        GpuxError: nothing was generated.
    """
    replies = Replies(
        call.core, exchange.model, tasks, request, exchange.prepared, exchange.param, (), keep_alive=exchange.keep_alive
    )
    streams = False
    try:
        if not exchange.stream:
            return await until_disconnected(call.request, _whole(replies, exchange))
        await until_disconnected(call.request, replies.begin(BEGIN))
        streams = True
        return line_stream(_lines(replies, exchange), replies.close, on_error=error_line)
    finally:
        if not streams:
            replies.close()


async def load_or_unload(call: Call, exchange: Exchange, tasks: Sequence[str]) -> Response:
    """The answer to a request without input: it loads its model, or unloads it with ``keep_alive: 0``.

    Raises:
        ForbiddenError: it unloads, and the key lacks the scope ``manage``.
        GpuxError: the model is not stored, or cannot be loaded.
    """
    models = call.core.models
    reason = "load"
    if exchange.keep_alive == 0:
        call.core.access.check(call.request, "manage")
        models.find(exchange.model, tasks)
        await models.unload(exchange.model)
        reason = "unload"
    else:
        await until_disconnected(call.request, models.load(exchange.model, tasks, keep_alive=exchange.keep_alive))
    return json_response({**exchange.head(""), "done": True, "done_reason": reason})


async def _whole(replies: Replies, exchange: Exchange) -> Response:
    scores: list[Any] = []
    names: list[str] = []
    async for reply in replies:
        if isinstance(reply, Piece):
            scores += reply.scores
            names += reply.names
            continue
        [one] = reply.sequences
        answer = {**exchange.head(one.text), **exchange.end(finish_reason(one), reply)}
        return json_response(answer | _logs(exchange, scores, names))
    raise AssertionError("the replies ended before the result")


async def _lines(replies: Replies, exchange: Exchange) -> AsyncIterator[bytes]:
    async for reply in replies:
        if isinstance(reply, Piece):
            yield line({**exchange.head(reply.text), "done": False} | _logs(exchange, reply.scores, reply.names))
            continue
        [one] = reply.sequences
        yield line({**exchange.head(""), **exchange.end(finish_reason(one), reply)})


def _logs(exchange: Exchange, scores: list[Any], names: list[str]) -> dict[str, Any]:
    return {"logprobs": logprobs.of_chat(scores, names)["content"]} if exchange.logs else {}


def log_options(wanted: bool | None, alternatives: int | None) -> dict[str, Any]:
    """The options of the pipeline's call for ``logprobs`` and ``top_logprobs``.

    Raises:
        UsageError: alternatives are wanted without log probabilities.
    """
    if alternatives and not wanted:
        raise UsageError("top_logprobs needs logprobs: true", hint="Set it, or omit both.", param="top_logprobs")
    return {"logprobs": alternatives or 0} if wanted else {}


def error_line(error: GpuxError) -> bytes:
    """The last line of a stream that failed."""
    return line(error_body(public(error), status_of(error)))


def now() -> str:
    """The current time as RFC 3339."""
    return timestamp(datetime.now(UTC))


def timestamp(time: datetime) -> str:
    """A time in UTC as RFC 3339."""
    return time.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def nanoseconds(seconds: float) -> int:
    """At least 1."""
    return max(1, int(seconds * _NANO))
