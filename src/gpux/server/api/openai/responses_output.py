"""A response and its events, written piece by piece.

Source of the formats: OpenAI's API reference, the types of its clients, and the schemas of Open Responses.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from gpux.errors import GpuxError
from gpux.server.api.openai import logprobs
from gpux.server.api.openai.errors import error_body, status_of
from gpux.server.api.openai.generation import finish_reason
from gpux.server.security.redaction import public
from gpux.server.workers.messages import Generated, Part, Piece

Event = dict[str, Any]


class Answer:
    """One response. Each method returns the events of its step; :meth:`response` is the state after them.

    The items of the output are the reasoning, a message and calls of tools, in the order in which the model writes
    them; one of them is open at a time. A call whose arguments were cut, or are not JSON, is an ``incomplete`` item.

    Args:
        echo: the parameters of the request that a response repeats.
        logs: whether it has log probabilities.
    """

    def __init__(self, echo: Mapping[str, Any], logs: bool) -> None:
        self._echo, self._logs = echo, logs
        self._id, self._created = _id("resp"), int(time.time())
        self._output: list[dict[str, Any]] = []
        self._open: dict[str, Any] | None = None  #: the last item, while it is written
        self._scores: list[Any] = []  #: log probabilities that wait for a text
        self._status = "in_progress"
        self._error: dict[str, Any] | None = None
        self._usage: dict[str, Any] | None = None
        self._number = 0

    def response(self) -> dict[str, Any]:
        """The response as it is now."""
        incomplete = self._status == "incomplete"
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "completed_at": int(time.time()) if self._status == "completed" else None,
            "status": self._status,
            "error": self._error,
            "incomplete_details": {"reason": "max_output_tokens"} if incomplete else None,
            "output": list(self._output),
            "usage": self._usage,
            **self._echo,
        }

    def begin(self) -> list[Event]:
        """The response begins."""
        found = [self._event("response.created", response=self.response())]
        return [*found, self._event("response.in_progress", response=self.response())]

    def add(self, piece: Piece) -> list[Event]:
        """More of the answer."""
        if self._logs:
            self._scores += logprobs.of_chat(piece.scores, piece.names)["content"]
        return self.add_parts(piece.parts)

    def add_parts(self, parts: Sequence[Part]) -> list[Event]:
        """More of the answer, without log probabilities."""
        return [event for part in parts for event in self._part(part)]

    def end(self, found: Generated) -> list[Event]:
        """The answer has ended."""
        [one] = found.sequences
        self._status = "incomplete" if finish_reason(one) == "length" else "completed"
        self._usage = {
            "input_tokens": one.prompt_tokens,
            "input_tokens_details": {"cached_tokens": one.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": one.tokens,
            "output_tokens_details": {"reasoning_tokens": one.reasoning_tokens},
            "total_tokens": one.prompt_tokens + one.tokens,
        }
        events = [] if self._output else list(self._begin("message"))
        events += self._close(self._status)
        return [*events, self._event(f"response.{self._status}", response=self.response())]

    def failed(self, error: GpuxError) -> bytes:
        """The events that end a stream after an error."""
        shaped = error_body(public(error), status_of(error))["error"]
        self._status = "failed"
        code = "rate_limit_exceeded" if shaped["type"] == "rate_limit_error" else "server_error"
        self._error = {"code": code, "message": shaped["message"]}
        if self._open is not None:
            self._open["status"] = "incomplete"
        first = self._event("error", code=shaped["code"], message=shaped["message"], param=shaped["param"])
        return sent([first, self._event("response.failed", response=self.response())])

    def _part(self, part: Part) -> Iterator[Event]:
        if part.kind in ("content", "reasoning"):
            kind = "message" if part.kind == "content" else "reasoning"
            if self._open is None or self._open["type"] != kind:
                yield from self._close("completed")
                yield from self._begin(kind)
            yield self._text(part.text)
            return
        self._scores = []
        if part.kind == "call":
            yield from self._close("completed")
            item = {"id": _id("fc"), "type": "function_call", "status": "in_progress"}
            yield self._added({**item, "call_id": part.id, "name": part.name, "arguments": ""})
        elif part.kind == "arguments":
            assert self._open is not None
            self._open["arguments"] += part.text
            yield self._event("response.function_call_arguments.delta", **self._item(), delta=part.text)
        else:
            yield from self._close("completed" if part.complete else "incomplete")

    def _begin(self, kind: str) -> Iterator[Event]:
        """An item with a text."""
        if kind == "message":
            item: dict[str, Any] = {"id": _id("msg"), "type": kind, "role": "assistant", "status": "in_progress"}
            part: dict[str, Any] = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        else:
            item = {"id": _id("rs"), "type": kind, "summary": [], "status": "in_progress"}
            part = {"type": "reasoning_text", "text": ""}
        yield self._added({**item, "content": []})
        self._output[-1]["content"] = [part]
        yield self._event("response.content_part.added", **self._place(), part=dict(part))

    def _text(self, text: str) -> Event:
        part = self._output[-1]["content"][0]
        part["text"] += text
        if part["type"] == "reasoning_text":
            self._scores = []
            return self._event("response.reasoning_text.delta", **self._place(), delta=text)
        logs, self._scores = self._scores, []
        part["logprobs"] += logs
        return self._event("response.output_text.delta", **self._place(), delta=text, logprobs=logs)

    def _close(self, status: str) -> Iterator[Event]:
        """The open item, if there is one, has ended."""
        item, self._open = self._open, None
        if item is None:
            return
        item["status"] = status
        if item["type"] == "function_call":
            done = {"name": item["name"], "arguments": item["arguments"]}
            yield self._event("response.function_call_arguments.done", **self._item(), **done)
        else:
            part = item["content"][0]
            reasons = part["type"] == "reasoning_text"
            done = {"text": part["text"]} if reasons else {"text": part["text"], "logprobs": part["logprobs"]}
            kind = "reasoning_text" if reasons else "output_text"
            yield self._event(f"response.{kind}.done", **self._place(), **done)
            yield self._event("response.content_part.done", **self._place(), part=part)
        yield self._event("response.output_item.done", output_index=len(self._output) - 1, item=item)

    def _added(self, item: dict[str, Any]) -> Event:
        self._open = item
        self._output.append(item)
        return self._event("response.output_item.added", output_index=len(self._output) - 1, item=dict(item))

    def _item(self) -> dict[str, Any]:
        return {"item_id": self._output[-1]["id"], "output_index": len(self._output) - 1}

    def _place(self) -> dict[str, Any]:
        return {**self._item(), "content_index": 0}

    def _event(self, kind: str, **fields: Any) -> Event:
        self._number += 1
        return {"type": kind, "sequence_number": self._number - 1, **fields}


def sent(events: list[Event]) -> bytes:
    """Server-sent events, each named by its type."""
    return b"".join(
        b"event: " + one["type"].encode() + b"\ndata: " + msgspec.json.encode(one) + b"\n\n" for one in events
    )


def _id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(16)}"
