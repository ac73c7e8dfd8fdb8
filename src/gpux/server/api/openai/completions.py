"""``/v1/completions``."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta
from starlette.responses import Response

from gpux.errors import UsageError
from gpux.server.api.endpoint import Call
from gpux.server.api.openai import logprobs
from gpux.server.api.openai.generation import TokenLog, options_of, respond
from gpux.server.api.openai.parameters import Alternatives, Bias, Copies, Count, Sampling, check, refused, supported
from gpux.server.core import TEXT_TASKS
from gpux.server.workers.messages import Generate, Piece, Sequence

#: Tokens of an answer, as OpenAI's API has it.
DEFAULT_TOKENS = 16
MOST_PROMPTS = 2048


class CompletionRequest(Sampling, kw_only=True, forbid_unknown_fields=True):
    """The body of a request; see :mod:`gpux.server.api.openai.parameters`."""

    prompt: Annotated[
        str | Annotated[list[Any], Meta(min_length=1, max_length=MOST_PROMPTS)],
        supported("a text or a list of texts; token ids are refused"),
    ]
    max_tokens: Annotated[Count | None, supported("16 by default, as in OpenAI's API")] = None
    echo: Annotated[bool | None, supported("put the prompt before its answer; not with `logprobs`")] = None
    logprobs: Annotated[Alternatives | None, supported("of the model's own distribution")] = None
    logit_bias: Annotated[Bias | None, supported("ids are those of the model's own tokenizer")] = None
    best_of: Annotated[Copies | None, supported("only the value of `n`: every answer is returned")] = None

    suffix: Annotated[Any, refused("put the text after the gap into the prompt, as the model expects it", "")] = None


async def completions(call: Call) -> Response:
    """Continue prompts."""
    body: CompletionRequest = call.body
    check(body)
    if body.best_of is not None and body.best_of != (body.n or 1):
        raise UsageError("best_of differs from n", hint="Omit best_of.", param="best_of")
    if body.echo and body.logprobs is not None:
        raise UsageError("echo and logprobs cannot be combined", hint="Omit one of them.", param="echo")
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    for number, prompt in enumerate(prompts):
        if not isinstance(prompt, str):
            raise UsageError(
                "prompt holds token ids, and must be a text or a list of texts",
                hint="Token ids of another tokenizer would be other texts: send the text itself.",
                param="prompt" if isinstance(prompt, int) else f"prompt[{number}]",
            )
    options = options_of(body, most=body.max_tokens or DEFAULT_TOKENS, logprobs=body.logprobs, bias=body.logit_bias)
    request = Generate(0, list(prompts), options, echo_tokens=body.logprobs is not None)
    echoed = [prompt for prompt in prompts for _ in range(body.n or 1)] if body.echo else None
    return await respond(call, body, request, TEXT_TASKS, _Completion(echoed, body.logprobs))


class _Completion:
    """Choices of a completion; see :class:`~gpux.server.api.openai.generation.Shape`."""

    object = "text_completion"
    chunk = "text_completion"
    param = "prompt"

    def __init__(self, echoed: list[str] | None, alternatives: int | None) -> None:
        self._echoed, self._alternatives = echoed, alternatives
        self._offsets: dict[int, int] = {}

    def whole(self, index: int, one: Sequence, finish: str, log: TokenLog) -> dict[str, Any]:
        """See :class:`Shape`."""
        before = "" if self._echoed is None else self._echoed[index]
        return {**_choice(index, before + one.text, finish), "logprobs": self._log(log.scores, log.names, 0)}

    def first(self, index: int) -> dict[str, Any] | None:
        """See :class:`Shape`."""
        return None if self._echoed is None else _choice(index, self._echoed[index])

    def pieces(self, piece: Piece) -> list[dict[str, Any]]:
        """See :class:`Shape`."""
        offset = self._offsets.get(piece.number, 0)
        self._offsets[piece.number] = offset + len(piece.text)
        return [{**_choice(piece.number, piece.text), "logprobs": self._log(piece.scores, piece.names, offset)}]

    def last(self, index: int, finish: str) -> dict[str, Any]:
        """See :class:`Shape`."""
        return _choice(index, "", finish)

    def _log(self, scores: list[Any], names: list[str], offset: int) -> dict[str, Any] | None:
        if self._alternatives is None:
            return None
        return logprobs.of_completion(scores, names, offset, self._alternatives > 0)


def _choice(index: int, text: str, finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "text": text, "finish_reason": finish, "logprobs": None}
