"""Answers to chats taken apart in the worker, where the chat template and its prompt are known."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from gpux.errors import InputError, UsageError
from gpux.inspect.chat_styles import opened
from gpux.pipelines.chat.messages import schemas
from gpux.pipelines.chat.tools.chosen import Parts, schemas_of
from gpux.pipelines.chat.tools.events import Answer, CallArguments, CallBegun, CallEnded, Content, Event, Reasoning
from gpux.pipelines.chat.tools.grammar import call_format
from gpux.pipelines.chat.tools.parser import Parser
from gpux.pipelines.generation.base import GenerationPipeline
from gpux.pipelines.generation.structured import special_tokens
from gpux.pipelines.generation.text_generation import TextGenerationPipeline
from gpux.server.workers import messages
from gpux.server.workers.messages import Generate, Parsing, Part, Piece, ToolCall

#: Length of the ids of calls that Mistral's templates accept.
_MISTRAL_ID = 9
_CUT = ("length", "deadline", "cancelled")


T = TypeVar("T")
#: What is read of all added tokens, which takes a millisecond for a thousand of them; by pipeline.
_kept: WeakKeyDictionary[TextGenerationPipeline, dict[Any, Any]] = WeakKeyDictionary()


def _once(pipe: TextGenerationPipeline, key: object, build: Callable[[], T]) -> T:
    known = _kept.setdefault(pipe, {})
    if key not in known:
        known[key] = build()
    found: T = known[key]
    return found


def parts_of(pipe: TextGenerationPipeline, *, tools: bool) -> Parts:
    """How the answers of a pipeline are taken apart."""

    def build() -> Parts:
        added = pipe.tokenizer.backend.get_added_tokens_decoder().values()
        return Parts.of(pipe.chat_template.choose(tools=tools), {token.content for token in added})

    return _once(pipe, tools, build)


def for_template(
    pipe: TextGenerationPipeline, inputs: Sequence[Any], options: Mapping[str, Any]
) -> tuple[list[Any], list[dict[str, Any]], Parts]:
    """Chats as the template reads them, their tools, and how the answers are taken apart.

    Args:
        pipe: the model's.
        inputs: lists of messages.
        options: of the pipeline's call, with ``tools``.

    Raises:
        UsageError: the model's chat template reads no tools.
    """
    tools = schemas(options.get("tools")) or []
    parts = parts_of(pipe, tools=bool(tools))
    if tools and parts.tools is None:
        raise UsageError(
            "tools are not read by this model's chat template",
            hint="Describe them in a message, or use a model whose chat template has tools.",
            param="tools",
        )
    if not tools:
        parts = replace(parts, tools=None)
    return [_with_names(item, parts) for item in inputs], tools, parts


class Parsed:
    """The parsers of a request's sequences.

    Args:
        pipe: the model's.
        request: with ``parsing``; not changed.
        options: of the pipeline's call, checked.
        copies: sequences of each input.

    Raises:
        UsageError: the model's chat template reads no tools, or a call cannot be enforced.
    """

    def __init__(self, pipe: GenerationPipeline, request: Generate, options: Mapping[str, Any], copies: int) -> None:
        parsing = request.parsing or Parsing()
        self.inputs, self.options, self._copies = list(request.inputs), dict(options), copies
        self._parsers: dict[int, Parser | None] = {}
        self._events: dict[int, list[Event]] = {}
        self._tokens: dict[int, int] = {}  #: so far
        self._thought: dict[int, int] = {}  #: up to the end of the reasoning
        if not isinstance(pipe, TextGenerationPipeline) or not all(isinstance(item, list) for item in self.inputs):
            return
        if parsing.choice == "none":
            self.options.pop("tools", None)
        self.inputs, tools, parts = for_template(pipe, self.inputs, self.options)
        if not tools and parsing.choice in ("required", "function"):
            raise UsageError("tool_choice needs tools", hint="Add them, or omit it.", param="tool_choice")
        prompts = [
            pipe.prompt_text(item, **self.options) if parts.reasoning is not None else "" for item in self.inputs
        ]
        if tools:
            self._constrain(pipe, parts, tools, parsing, bool(prompts) and opened(prompts[0], parts.reasoning))
        known = schemas_of(tools)
        for place, prompt in enumerate(prompts):
            for number in range(place * copies, (place + 1) * copies):
                self._parsers[number] = parts.parser(prompt, known)
        if any(parser is not None for parser in self._parsers.values()):
            kept = self.options.get("keep_special_tokens") or ()
            self.options["keep_special_tokens"] = [*([kept] if isinstance(kept, str) else kept), *parts.marks]

    def _constrain(
        self,
        pipe: TextGenerationPipeline,
        parts: Parts,
        tools: list[dict[str, Any]],
        parsing: Parsing,
        in_reasoning: bool,
    ) -> None:
        """Enforce calls where one is required, a format or calls where there is one, and schemas of strict tools."""
        wanted = self.options.get("response_format")
        forced = parsing.choice in ("required", "function")
        formed = isinstance(wanted, Mapping) and wanted.get("type") != "text"
        if forced or formed or parsing.strict:
            ends = pipe.resolve(self.options).options.eos_token_ids
            self.options["response_format"] = call_format(
                parts,
                tools,
                _once(pipe, tuple(ends), lambda: special_tokens(pipe.tokenizer.backend, ends)).get,
                function=parsing.function if parsing.choice == "function" else None,
                parallel=parsing.parallel,
                in_reasoning=in_reasoning,
                otherwise=wanted if formed and not forced else None,
                strict=None if forced or formed else parsing.strict,
            )

    def read(self, number: int, tokens: int) -> None:
        """Count tokens of a sequence, before the piece that they are part of."""
        self._tokens[number] = self._tokens.get(number, 0) + tokens

    def piece(self, piece: Piece) -> Piece:
        """A piece with its parts, and the text of its content."""
        parser = self._parsers.get(piece.number)
        if parser is None:
            piece.parts = [Part("content", piece.text)] if piece.text else []
            return piece
        return self._with(piece, parser.feed(piece.text))

    def last(self, id: int, place: int) -> Iterable[Piece]:
        """The pieces that end the sequences of an input, where they have more parts."""
        for number in range(place * self._copies, (place + 1) * self._copies):
            if (parser := self._parsers.get(number)) is not None and (events := parser.finish()):
                yield self._with(Piece(id, number, ""), events)

    def ended(self, number: int, one: messages.Sequence) -> messages.Sequence:
        """A sequence with its parts."""
        if self._parsers.get(number) is None:
            return one
        answer = Answer.of(self._events.get(number, ()), truncated=one.finish_reason in _CUT)
        one.text, one.reasoning = answer.content, answer.reasoning
        one.reasoning_tokens = self._thought.get(number, 0)
        one.calls = [ToolCall(call.id, call.name, call.arguments, call.complete, call.raw) for call in answer.calls]
        return one

    def _with(self, piece: Piece, events: list[Event]) -> Piece:
        self._events.setdefault(piece.number, []).extend(events)
        if any(isinstance(event, Reasoning) for event in events):
            self._thought[piece.number] = self._tokens.get(piece.number, 0)
        piece.parts = [_part(event) for event in events]
        piece.text = "".join(part.text for part in piece.parts if part.kind == "content")
        return piece


def _part(event: Event) -> Part:
    match event:
        case Content(text):
            return Part("content", text)
        case Reasoning(text):
            return Part("reasoning", text)
        case CallBegun(index, id, name):
            return Part("call", index=index, id=id, name=name)
        case CallArguments(index, text):
            return Part("arguments", text, index)
        case CallEnded(index, complete, raw):
            return Part("end", raw, index, complete=complete)


def _with_names(chat: list[Any], parts: Parts) -> list[Any]:
    """Messages with what templates read besides: the name of a result's tool, and Mistral's ids of calls."""
    names: dict[str, str] = {}
    found = []
    short = parts.tools is not None and parts.tools.family == "mistral"
    for place, message in enumerate(chat):
        if not isinstance(message, dict):
            raise InputError(f"message {place} is not a dict", index=place)
        one = dict(message)
        if isinstance(calls := one.get("tool_calls"), list):
            one["tool_calls"] = [dict(call) if isinstance(call, dict) else call for call in calls]
            for call in one["tool_calls"]:
                if isinstance(call, dict) and isinstance(id := call.get("id"), str):
                    function = call.get("function")
                    names[id] = function.get("name", "") if isinstance(function, dict) else ""
                    call["id"] = _short(id) if short else id
        id = one.get("tool_call_id")
        if one.get("role") == "tool" and isinstance(id, str):
            if names.get(id):
                one.setdefault("name", names[id])
            one["tool_call_id"] = _short(id) if short else id
        found.append(one)
    return found


def _short(id: str) -> str:
    if len(id) == _MISTRAL_ID and id.isalnum():
        return id
    return hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()[:_MISTRAL_ID]
