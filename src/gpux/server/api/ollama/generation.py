"""What ``/api/generate`` and ``/api/chat`` have in common: loading by empty requests, lines of a stream, counts."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.responses import Response

from gpux.errors import GpuxError
from gpux.server.api.endpoint import Call
from gpux.server.api.ollama.errors import error_body, status_of
from gpux.server.api.ollama.options import Asked, Think, keep_alive_seconds
from gpux.server.api.openai import logprobs
from gpux.server.api.openai.generation import BEGIN, DEFAULT_TOKENS, finish_reason
from gpux.server.api.openai.replies import Replies
from gpux.server.api.openai.thinking import think
from gpux.server.http import json_response, line, line_stream, until_disconnected
from gpux.server.models import Loaded
from gpux.server.security.redaction import public
from gpux.server.workers import messages
from gpux.server.workers.messages import Generate, Generated, Part, Piece

_NANO = 1_000_000_000


@dataclass
class Said:
    """A part of an answer."""

    text: str = ""
    thinking: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)  #: as ``tool_calls``


@dataclass
class Exchange:
    """One request for generated text.

    Args:
        model: its name in the request, which the answers repeat.
        content: what an answer, or a line, has for a part of the answer.
        param: the parameter with the input.
        stream: answer in lines.
        keep_alive: seconds; None: the server's setting.
        logs: report log probabilities.
        think: whether the model reasons, or how much; None: as its chat template has it.
        prepare: completes the request by what is known of its model.
    """

    model: str
    content: Callable[[Said], dict[str, Any]]
    param: str
    stream: bool
    keep_alive: float | None
    logs: bool = False
    think: Think | None = None
    prepare: Callable[[Loaded, Generate], None] | None = None
    began: float = field(default_factory=time.monotonic)
    leased: float | None = None

    @classmethod
    def of(
        cls,
        body: Asked,
        content: Callable[[Said], dict[str, Any]],
        param: str,
        *,
        prepare: Callable[[Loaded, Generate], None] | None = None,
    ) -> Exchange:
        """The exchange of a request.

        Raises:
            UsageError: ``keep_alive`` is not a duration.
        """
        keep_alive = keep_alive_seconds(body.keep_alive)
        stream = body.stream is not False
        return cls(body.model, content, param, stream, keep_alive, bool(body.logprobs), body.think, prepare)

    def head(self, said: Said) -> dict[str, Any]:
        """What every line begins with."""
        return {"model": self.model, "created_at": now(), **self.content(said)}

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
        if self.think is not None:
            think(loaded, request.options, self.think, param="think")
        if self.prepare is not None:
            self.prepare(loaded, request)


async def respond(call: Call, exchange: Exchange, request: Generate, tasks: Sequence[str]) -> Response:
    """Generate and answer, at once or line by line.

    Raises:
        GpuxError: nothing was generated.
    """
    request.pieces = exchange.stream or exchange.logs
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
    return json_response({**exchange.head(Said()), "done": True, "done_reason": reason})


async def _whole(replies: Replies, exchange: Exchange) -> Response:
    scores: list[Any] = []
    names: list[str] = []
    async for reply in replies:
        if isinstance(reply, Piece):
            scores += reply.scores
            names += reply.names
            continue
        [one] = reply.sequences
        said = Said()
        for found in _Reading().read(one.parts):
            said = Said(said.text + found.text, said.thinking + found.thinking, said.calls + found.calls)
        answer = {**exchange.head(said), **exchange.end(_reason(one), reply)}
        return json_response(answer | _logs(exchange, scores, names))
    raise AssertionError("the replies ended before the result")


async def _lines(replies: Replies, exchange: Exchange) -> AsyncIterator[bytes]:
    reading = _Reading()
    async for reply in replies:
        if isinstance(reply, Piece):
            found = list(reading.read(reply.parts))
            if not found and exchange.logs:
                found = [Said()]
            for place, said in enumerate(found):
                logs = _logs(exchange, reply.scores, reply.names) if place == 0 else {}
                yield line({**exchange.head(said), "done": False} | logs)
            continue
        [one] = reply.sequences
        yield line({**exchange.head(Said()), **exchange.end(_reason(one), reply)})


class _Reading:
    """Puts the calls of an answer together, which this API sends whole; one that is not JSON is text."""

    def __init__(self) -> None:
        self._call: Part | None = None
        self._arguments = ""

    def read(self, parts: Sequence[Part]) -> Iterator[Said]:
        """What a line says, for each part that makes one."""
        for part in parts:
            if part.kind == "content":
                yield Said(part.text)
            elif part.kind == "reasoning":
                yield Said(thinking=part.text)
            elif part.kind == "call":
                self._call, self._arguments = part, ""
            elif part.kind == "arguments":
                self._arguments += part.text
            elif not part.complete:
                yield Said(part.text)
            elif self._call is not None:
                arguments = msgspec.json.decode(self._arguments or "{}")
                function = {"index": part.index, "name": self._call.name, "arguments": arguments}
                yield Said(calls=[{"id": self._call.id, "function": function}])


def _reason(one: messages.Sequence) -> str:
    """``length`` or ``stop``, also after calls."""
    return "length" if finish_reason(one) == "length" else "stop"


def _logs(exchange: Exchange, scores: list[Any], names: list[str]) -> dict[str, Any]:
    return {"logprobs": logprobs.of_chat(scores, names)["content"]} if exchange.logs else {}


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
