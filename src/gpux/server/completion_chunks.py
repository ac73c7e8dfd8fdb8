"""What a stream of chat or text completions consists of (https://platform.openai.com/docs/api-reference/chat-streaming).

For clients: :mod:`gpux.server.bench.endpoint` and :mod:`gpux.chat.providers.openai_compatible`. The fields of a piece
have no fixed type, since servers send null, or lists of parts, in place of a text.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

#: The data of the last event of a stream.
DONE: Final = b"[DONE]"


class Piece(msgspec.Struct):
    """A part of an answer: a ``delta``, or the ``message`` of an answer that is not a stream."""

    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None  #: vLLM and OpenRouter
    tool_calls: Any = None


class Choice(msgspec.Struct):
    """A part of one of the answers to a request."""

    delta: Piece | None = None
    message: Piece | None = None  #: of an answer that is not a stream
    text: str | None = None  #: of a text completion
    finish_reason: str | None = None


class Usage(msgspec.Struct):
    """Tokens of a request and of its answer."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Chunk(msgspec.Struct):
    """The data of an event."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: Any = None
