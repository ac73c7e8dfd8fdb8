"""Texts of ``/models/{id}`` in the shapes of text-generation-inference, at once and as a stream.

Source of the format: the OpenAPI document of text-generation-inference, as
``huggingface_hub.inference._generated.types.text_generation`` has it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.responses import Response

from gpux.errors import GpuxError, UsageError
from gpux.server.api.endpoint import Call
from gpux.server.api.huggingface.errors import error_body, status_of
from gpux.server.api.huggingface.requests import Inference
from gpux.server.api.openai.replies import Replies
from gpux.server.http import event, event_stream, json_response, until_disconnected
from gpux.server.models import Loaded
from gpux.server.security.redaction import public
from gpux.server.workers.messages import Generate, Generated, Piece, Sequence

#: Tokens of an answer where the request sets no number, as text-generation-inference.
DEFAULT_TOKENS = 100
#: Seconds that a stream waits for its first text, so that an error before has an HTTP status.
BEGIN = 15.0
_MOST_ALTERNATIVES = 20
#: Parameter -> values that ask for nothing.
_REFUSED: Mapping[str, tuple[Any, ...]] = {
    "adapter_id": (),
    "best_of": (1,),
    "decoder_input_details": (False,),
    "truncate": (),
    "watermark": (False,),
}
_REASONS = {"eos": "eos_token", "stop": "stop_sequence"}
#: Parameters that turn sampling on.
_SAMPLING = ("temperature", "top_k", "top_p", "typical_p")
_OWN = ("details", "return_full_text", "top_n_tokens", "grammar", "stop", "stop_sequences", *_REFUSED)


class Wanted:
    """What a request wants to be answered.

    Raises:
        UsageError: a parameter is refused, or has a value that it cannot have.
    """

    def __init__(self, request: Inference) -> None:
        given = request.parameters
        for name, nothing in _REFUSED.items():
            if name in given and given[name] not in nothing:
                raise UsageError(f"{name} is not supported", hint="Omit it.", param=name)
        self.details = _flag(given, "details")
        self.prepends = _flag(given, "return_full_text")
        self.alternatives = _alternatives(given.get("top_n_tokens"))
        self.inputs, self.several = _inputs(request)
        self.options: dict[str, Any] = {"max_new_tokens": DEFAULT_TOKENS}
        self.options |= {name: value for name, value in given.items() if name not in _OWN}
        if self.options.get("do_sample") is False and any(name in given for name in _SAMPLING):
            del self.options["do_sample"]  # as there, where clients send it beside a temperature
        self.copies = given.get("num_return_sequences", 1)
        if stop := given.get("stop", given.get("stop_sequences")):
            self.options["stop_strings"] = stop  # the text is part of the answer
        if (grammar := given.get("grammar")) is not None:
            self.options["response_format"] = _format(grammar)
        if self.details or request.stream:
            self.options["logprobs"] = self.alternatives

    @property
    def seed(self) -> Any:
        """Of the request."""
        return self.options.get("seed")

    def text(self, number: int, text: str) -> str:
        """The text of a sequence, after its prompt if the request wants that."""
        prompt = self.inputs[number // self.copies]
        return prompt + text if self.prepends and isinstance(prompt, str) else text


async def generate(call: Call, name: str, task: str, request: Inference) -> Response:
    """Continue prompts, or answer a chat.

    Raises:
        UsageError: a parameter is invalid.
        GpuxError: nothing was generated.
    """
    wanted = Wanted(request)
    if request.stream and (len(wanted.inputs) > 1 or wanted.copies != 1):
        raise UsageError("a stream has one text", hint="Send one input, or stream: false.", param="stream")
    message = Generate(0, wanted.inputs, wanted.options, echo_tokens=wanted.details or request.stream)
    replies = Replies(call.core, name, (task,), message, _as_it_is, "inputs", tuple(request.parameters))
    streams = False
    try:
        if not request.stream:
            return await until_disconnected(call.request, _whole(replies, wanted))
        await until_disconnected(call.request, replies.begin(BEGIN))
        streams = True
        return event_stream(_events(replies, wanted), replies.close, on_error=_error_event)
    finally:
        if not streams:
            replies.close()


def _as_it_is(loaded: Loaded, request: Generate) -> None:
    """A request that nothing completes."""


async def _whole(replies: Replies, wanted: Wanted) -> Response:
    tokens: dict[int, list[dict[str, Any]]] = {}
    tops: dict[int, list[list[dict[str, Any]]]] = {}
    async for reply in replies:
        if isinstance(reply, Piece):
            tokens.setdefault(reply.number, []).extend(_tokens(reply))
            tops.setdefault(reply.number, []).extend(_tops(reply))
            continue
        found = []
        for number, one in enumerate(reply.sequences):
            answer: dict[str, Any] = {"generated_text": wanted.text(number, one.text)}
            if wanted.details:
                details = {**_details(one, wanted), "prefill": [], "tokens": tokens.get(number, [])}
                if wanted.alternatives:
                    details["top_tokens"] = tops.get(number, [])
                answer["details"] = details
            found.append(answer)
        if not wanted.several:
            return json_response(found)
        step = wanted.copies
        return json_response([found[start : start + step] for start in range(0, len(found), step)])
    raise AssertionError("the replies ended before the result")


async def _events(replies: Replies, wanted: Wanted) -> AsyncIterator[bytes]:
    index, last = 0, 0
    async for reply in replies:
        if isinstance(reply, Generated):
            one = reply.sequences[0]
            end = {"id": last, "text": "", "logprob": 0.0, "special": True}
            details = {**_details(one, wanted), "input_length": one.prompt_tokens}
            text = wanted.text(0, one.text)
            yield event({"index": index + 1, "token": end, "generated_text": text, "details": details})
            return
        tokens, tops = _tokens(reply), _tops(reply)
        # Together the texts are the answer: those of tokens alone are not where a character has several.
        for place, token in enumerate(tokens):
            last, index = token["id"], index + 1
            token["text"] = reply.text if place == len(tokens) - 1 else ""
            more = {"top_tokens": tops[place]} if wanted.alternatives else {}
            yield event({"index": index, "token": token, "generated_text": None, "details": None, **more})
        if not tokens and reply.text:
            rest = {"id": last, "text": reply.text, "logprob": 0.0, "special": False}
            yield event({"index": index, "token": rest, "generated_text": None, "details": None})


def _tokens(piece: Piece) -> list[dict[str, Any]]:
    names = iter(piece.names)
    found = []
    for token, logprob, top in piece.scores:
        found.append({"id": token, "text": next(names), "logprob": logprob, "special": False})
        for _ in top:
            next(names)
    return found


def _tops(piece: Piece) -> list[list[dict[str, Any]]]:
    names = iter(piece.names)
    found = []
    for _, _, top in piece.scores:
        next(names)
        found.append([{"id": id, "text": next(names), "logprob": logprob, "special": False} for id, logprob in top])
    return found


def _details(one: Sequence, wanted: Wanted) -> dict[str, Any]:
    reason = _REASONS.get(one.finish_reason, "length")
    return {"finish_reason": reason, "generated_tokens": one.tokens, "seed": wanted.seed}


def _error_event(error: GpuxError) -> bytes:
    return event(error_body(public(error), status_of(error)))


def _inputs(request: Inference) -> tuple[list[Any], bool]:
    """The prompts or chats, and whether several were sent."""
    given = request.inputs
    if isinstance(given, str):
        return [given], False
    if isinstance(given, list) and given:
        if all(isinstance(one, Mapping) for one in given):  # the messages of one chat
            return [given], False
        if all(isinstance(one, (str, list)) for one in given):
            return given, True
    raise UsageError("inputs is neither a text, a list of texts nor a chat", hint="Send a text.", param="inputs")


def _flag(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise UsageError(f"{name} is neither true nor false", hint="Omit it.", param=name)
    return value


def _alternatives(given: Any) -> int:
    if given is None:
        return 0
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= _MOST_ALTERNATIVES:
        raise UsageError(
            f"top_n_tokens must be an integer between 0 and {_MOST_ALTERNATIVES}",
            hint="Omit it for no alternatives.",
            param="top_n_tokens",
        )
    return given


def _format(grammar: Any) -> dict[str, Any]:
    """A grammar of text-generation-inference as the pipeline takes it."""
    kind, value = (grammar.get("type"), grammar.get("value")) if isinstance(grammar, Mapping) else (None, None)
    if kind == "regex" and isinstance(value, str):
        return {"type": "regex", "pattern": value}
    if kind in ("json", "json_schema"):
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                value = None
        if kind == "json_schema" and isinstance(value, Mapping):
            value = value.get("schema", value)
        if isinstance(value, Mapping):
            return {"type": "json_schema", "json_schema": {"schema": dict(value)}}
    raise UsageError(
        "grammar is neither a JSON schema nor a regular expression",
        hint='Send {"type": "json", "value": {…}} or {"type": "regex", "value": "…"}.',
        param="grammar",
    )
