"""A response and its events, written piece by piece.

Source of the formats: OpenAI's API reference, the types of its clients, and the schemas of Open Responses.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from gpux.errors import GpuxError
from gpux.server.api.openai import logprobs
from gpux.server.api.openai.errors import error_body, status_of
from gpux.server.api.openai.generation import finish_reason
from gpux.server.security.redaction import public
from gpux.server.workers.messages import Generated, Piece

Event = dict[str, Any]


class Answer:
    """One response. Each method returns the events of its step; :meth:`response` is the state after them.

    Args:
        echo: the parameters of the request that a response repeats.
        logs: whether it has log probabilities.
    """

    def __init__(self, echo: Mapping[str, Any], logs: bool) -> None:
        self._echo, self._logs = echo, logs
        self._id, self._created = _id("resp"), int(time.time())
        self._output: list[dict[str, Any]] = []
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
        """The response and its message begin."""
        found = [self._event("response.created", response=self.response())]
        found.append(self._event("response.in_progress", response=self.response()))
        item = {"id": _id("msg"), "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        found.append(self._event("response.output_item.added", output_index=0, item=item))
        self._output.append({**item, "content": [_part()]})
        found.append(self._event("response.content_part.added", **self._place(), part=_part()))
        return found

    def add(self, piece: Piece) -> list[Event]:
        """More text."""
        part = self._output[-1]["content"][0]
        part["text"] += piece.text
        logs = logprobs.of_chat(piece.scores, piece.names)["content"] if self._logs else []
        part["logprobs"] += logs
        return [self._event("response.output_text.delta", **self._place(), delta=piece.text, logprobs=logs)]

    def end(self, found: Generated) -> list[Event]:
        """The answer has ended."""
        [one] = found.sequences
        self._status = "incomplete" if finish_reason(one) == "length" else "completed"
        self._usage = {
            "input_tokens": one.prompt_tokens,
            "input_tokens_details": {"cached_tokens": one.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": one.tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": one.prompt_tokens + one.tokens,
        }
        item = self._output[-1]
        item["status"] = self._status
        part = item["content"][0]
        done = {"text": part["text"], "logprobs": part["logprobs"]}
        return [
            self._event("response.output_text.done", **self._place(), **done),
            self._event("response.content_part.done", **self._place(), part=part),
            self._event("response.output_item.done", output_index=0, item=item),
            self._event(f"response.{self._status}", response=self.response()),
        ]

    def failed(self, error: GpuxError) -> bytes:
        """The events that end a stream after an error."""
        shaped = error_body(public(error), status_of(error))["error"]
        self._status = "failed"
        code = "rate_limit_exceeded" if shaped["type"] == "rate_limit_error" else "server_error"
        self._error = {"code": code, "message": shaped["message"]}
        for item in self._output:
            item["status"] = "incomplete"
        first = self._event("error", code=shaped["code"], message=shaped["message"], param=shaped["param"])
        return sent([first, self._event("response.failed", response=self.response())])

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._output[-1]["id"], "output_index": len(self._output) - 1, "content_index": 0}

    def _event(self, kind: str, **fields: Any) -> Event:
        self._number += 1
        return {"type": kind, "sequence_number": self._number - 1, **fields}


def sent(events: list[Event]) -> bytes:
    """Server-sent events, each named by its type."""
    return b"".join(
        b"event: " + one["type"].encode() + b"\ndata: " + msgspec.json.encode(one) + b"\n\n" for one in events
    )


def _part() -> dict[str, Any]:
    return {"type": "output_text", "text": "", "annotations": [], "logprobs": []}


def _id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(16)}"
