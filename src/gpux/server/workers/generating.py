"""Requests that generate text one after the other, where sequences cannot join a running batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gpux.errors import UnsupportedTaskError
from gpux.pipelines.base import Pipeline
from gpux.pipelines.generation.base import GenerationPipeline
from gpux.pipelines.text.tokenization import Tokenizer
from gpux.runtime.generation.results import Generation, TokenScore
from gpux.server.workers import messages
from gpux.server.workers.account import Account
from gpux.server.workers.calls import checked_options
from gpux.server.workers.messages import Generate, Generated, Piece


def generator_of(pipe: Pipeline) -> GenerationPipeline:
    """The pipeline as one that generates text.

    Raises:
        UnsupportedTaskError: it does not.
    """
    if isinstance(pipe, GenerationPipeline):
        return pipe
    raise UnsupportedTaskError(
        f"{pipe.model.id} is a model of {pipe.task} and generates no text", hint="Name a model of text-generation."
    )


def generation_options(pipe: GenerationPipeline, request: Generate) -> dict[str, Any]:
    """The options of a request, checked; None stands for the model's default.

    Raises:
        UsageError: a value is invalid; ``param`` names it.
    """
    return checked_options(pipe, {name: value for name, value in request.options.items() if value is not None})


def generate_in_turn(pipe: GenerationPipeline, account: Account, send: Callable[[Any], None]) -> Generated:
    """Generate the sequences of a request, one input after the other; several of one input come at the end.

    Raises:
        GpuxError: what the pipeline raises.
    """
    request = account.request
    assert isinstance(request, Generate)
    options = generation_options(pipe, request)
    copies = int(options.get("num_return_sequences") or pipe.defaults.num_return_sequences)
    names = TokenNames(pipe.tokenizer) if request.echo_tokens else None
    sequences: list[messages.Sequence] = []
    for place, item in enumerate(request.inputs):
        if copies == 1:
            with pipe.stream(item, cancel=account.cancel, **options) as stream:
                for text in stream:
                    send(Piece(request.id, place, text))
                written: Sequence[Generation] = [stream.result]
        else:
            written = pipe.generate([item], cancel=account.cancel, **options)[0]
        for copy, one in enumerate(written):
            number = place * copies + copy
            if copies > 1 and one.text:
                send(Piece(request.id, number, one.text))
            if names is not None:
                send(names.piece(request.id, number, "", one.tokens, one.scores))
            sequences.append(ended(one))
        account.timing.prefill += written[0].timings.prefill
        account.timing.decode += written[0].timings.decode
    return Generated(request.id, sequences, account.timing)


def ended(one: Generation) -> messages.Sequence:
    """A generation as a message carries it."""
    return messages.Sequence(
        one.text,
        one.finish_reason,
        len(one.tokens),
        one.prompt_tokens,
        one.timings.reused_tokens,
        one.stopped_by,
    )


class TokenNames:
    """Texts of single tokens, which together are the text of all, where each is a whole number of characters."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._backend = tokenizer.backend
        self._known: dict[int, str] = {}
        before = self._backend.encode("a", add_special_tokens=False).ids[-1:]
        self._before, self._text = before, self._backend.decode(before, skip_special_tokens=False)

    def name(self, token: int) -> str:
        """The text of a token after another one: with its space, where it begins with one."""
        found = self._known.get(token)
        if found is None:
            both = self._backend.decode([*self._before, token], skip_special_tokens=False)
            alone = not both.startswith(self._text)
            found = self._backend.decode([token], skip_special_tokens=False) if alone else both[len(self._text) :]
            self._known[token] = found
        return found

    def piece(self, id: int, number: int, text: str, tokens: Sequence[int], scores: Sequence[TokenScore]) -> Piece:
        """A piece with tokens, their scores and the names of both."""
        listed = [[one.token, one.logprob, [list(other) for other in one.top]] for one in scores]
        names = [self.name(token) for one in scores for token in (one.token, *(other for other, _ in one.top))]
        return Piece(id, number, text, list(tokens), listed, names)
