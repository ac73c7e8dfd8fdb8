"""The answers of OpenAI's API, as the OpenAPI document describes them.

Handlers write them as dictionaries; the tests compare each answer with its type.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType


class ModelObject(msgspec.Struct):
    """A stored model."""

    id: str  #: its shortest name
    created: int  #: seconds since the epoch
    owned_by: str
    object: Literal["model"] = "model"


class ModelObjects(msgspec.Struct):
    """The stored models."""

    data: list[ModelObject]
    object: Literal["list"] = "list"


class PromptDetails(msgspec.Struct):
    """Where the tokens of prompts came from."""

    cached_tokens: int


class CompletionDetails(msgspec.Struct):
    """What the tokens of answers are."""

    reasoning_tokens: int


class TokenUsage(msgspec.Struct):
    """Numbers of tokens."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int | UnsetType = UNSET
    prompt_tokens_details: PromptDetails | UnsetType = UNSET
    completion_tokens_details: CompletionDetails | UnsetType = UNSET


class TokenLogprob(msgspec.Struct):
    """A token with its log probability, and those that could have been in its place."""

    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[TokenLogprob] | UnsetType = UNSET


class ChatLogprobs(msgspec.Struct):
    """The tokens of an answer to a chat."""

    content: list[TokenLogprob]
    refusal: None = None


class CalledFunction(msgspec.Struct):
    """The function of a call."""

    name: str
    arguments: str  #: JSON text of an object


class CalledTool(msgspec.Struct):
    """A call of a tool."""

    id: str
    function: CalledFunction
    type: Literal["function"] = "function"


class ChatAnswer(msgspec.Struct):
    """The message that answers a chat."""

    content: str | None
    role: Literal["assistant"] = "assistant"
    refusal: None = None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[CalledTool] | UnsetType = UNSET


class ChatChoice(msgspec.Struct):
    """One of the answers to a chat."""

    index: int
    message: ChatAnswer
    finish_reason: Literal["stop", "length", "tool_calls"]
    logprobs: ChatLogprobs | None


class ChatCompletion(msgspec.Struct):
    """The answers to a chat."""

    id: str
    created: int  #: seconds since the epoch
    model: str
    choices: list[ChatChoice]
    usage: TokenUsage
    object: Literal["chat.completion"] = "chat.completion"


class CompletionLogprobs(msgspec.Struct):
    """The tokens of a completion."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class CompletionChoice(msgspec.Struct):
    """One of the continuations of a prompt."""

    index: int
    text: str
    finish_reason: Literal["stop", "length"]
    logprobs: CompletionLogprobs | None


class TextCompletion(msgspec.Struct):
    """The continuations of prompts."""

    id: str
    created: int  #: seconds since the epoch
    model: str
    choices: list[CompletionChoice]
    usage: TokenUsage
    object: Literal["text_completion"] = "text_completion"


class Embedding(msgspec.Struct):
    """The vector of a text."""

    index: int
    embedding: list[float] | str  #: a text is base64 of float32, little-endian
    object: Literal["embedding"] = "embedding"


class Embeddings(msgspec.Struct):
    """The vectors of texts."""

    data: list[Embedding]
    model: str
    usage: TokenUsage
    object: Literal["list"] = "list"


class ResponseObject(msgspec.Struct):
    """A response; it also repeats the parameters of its request."""

    id: str
    created_at: int  #: seconds since the epoch
    completed_at: int | None
    status: Literal["completed", "incomplete", "failed"]
    error: dict[str, Any] | None
    incomplete_details: dict[str, str] | None
    output: list[dict[str, Any]]  #: items ``reasoning``, ``message`` and ``function_call``
    usage: dict[str, Any] | None
    model: str
    object: Literal["response"] = "response"


class InputTokens(msgspec.Struct):
    """The tokens of a conversation."""

    input_tokens: int
    object: Literal["response.input_tokens"] = "response.input_tokens"
