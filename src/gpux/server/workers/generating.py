"""Requests that generate text, by a generator that decodes several at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from gpux.errors import GpuxError, UnsupportedTaskError
from gpux.pipelines.base import Pipeline
from gpux.pipelines.generation import writing
from gpux.pipelines.generation.base import GenerationPipeline
from gpux.pipelines.generation.concurrent import ConcurrentGenerator
from gpux.pipelines.text.tokenization import Tokenizer
from gpux.runtime.generation.results import Generation, TokenScore
from gpux.server.workers import messages
from gpux.server.workers.account import Account
from gpux.server.workers.calls import checked_options
from gpux.server.workers.messages import Generate, Generated, Piece
from gpux.server.workers.parsing import Parsed


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


class Generating:
    """One request while its sequences are generated.

    Args:
        generator: decodes them, together with those of other requests where it can.
        pipe: the generator's.
        account: of the request.
        names: of tokens, where the request wants them.
        send: sends a message.
        end: called once with the last reply, or with the error of the request.
    """

    def __init__(
        self,
        generator: ConcurrentGenerator,
        pipe: GenerationPipeline,
        account: Account,
        *,
        names: TokenNames,
        send: Callable[[Any], None],
        end: Callable[[Account, Generated | GpuxError], None],
    ) -> None:
        assert isinstance(account.request, Generate)
        self._request, self._account = account.request, account
        self._generator, self._send, self._end = generator, send, end
        self._names = names if self._request.echo_tokens else None
        self._options = generation_options(pipe, self._request)
        self._copies = int(self._options.get("num_return_sequences") or pipe.defaults.num_return_sequences)
        self._parsed: Parsed | None = None
        self._inputs = self._request.inputs
        if self._request.parsing is not None:
            self._parsed = Parsed(pipe, self._request, self._options, self._copies)
            self._inputs, self._options = self._parsed.inputs, self._parsed.options
        self._lock = threading.Lock()
        self._uncounted: dict[int, int] = {}  # tokens of a sequence since its last piece that was sent
        self._found: dict[int, tuple[Generation, ...]] = {}
        self._ended = False

    def start(self) -> None:
        """Queue each input; returns at once."""
        inputs = self._inputs
        if not inputs:
            self._finish(Generated(self._request.id, [], self._account.timing))
        for place, item in enumerate(inputs):
            self._generator.submit(
                item,
                on_piece=partial(self._piece, place),
                on_done=partial(self._done, place),
                cancel=self._account.cancel,
                place=place,
                **self._options,
            )

    def _piece(self, place: int, piece: writing.Piece) -> None:
        self._account.waits = False
        number = place * self._copies + piece.number
        count = self._uncounted[number] = self._uncounted.get(number, 0) + len(piece.tokens)
        if self._parsed is not None:
            self._parsed.read(number, len(piece.tokens))
        if self._names is not None:
            found = self._names.piece(self._request.id, number, piece.text, piece.tokens, piece.scores)
        elif piece.text:
            found = Piece(self._request.id, number, piece.text)
        else:
            return
        if self._parsed is not None:
            found = self._parsed.piece(found)
            if not found.parts and self._names is None:
                return
        if self._request.pieces:
            found.count, self._uncounted[number] = count, 0
            self._send(found)

    def _done(self, place: int, result: tuple[Generation, ...] | GpuxError) -> None:
        if isinstance(result, GpuxError):
            self._account.cancel.cancel()  # of the other inputs
            self._finish(placed(result, place) if len(self._request.inputs) > 1 else result)
            return
        if self._parsed is not None:
            for piece in self._parsed.last(self._request.id, place):
                if self._request.pieces:
                    self._send(piece)
        with self._lock:
            self._found[place] = result
            if len(self._found) < len(self._request.inputs):
                return
        written = [one for place in range(len(self._found)) for one in self._found[place]]
        timing = self._account.timing
        timing.queue = min(one.timings.queue for one in written)
        timing.prefill = max(one.timings.prefill for one in written)
        timing.decode = max(one.timings.decode for one in written)
        sequences = [ended(one) for one in written]
        if self._parsed is not None:
            sequences = [self._parsed.ended(number, one) for number, one in enumerate(sequences)]
        self._finish(Generated(self._request.id, sequences, timing))

    def _finish(self, result: Generated | GpuxError) -> None:
        with self._lock:
            first, self._ended = not self._ended, True
        if first:
            self._end(self._account, result)


def placed(error: GpuxError, place: int) -> GpuxError:
    """An error of one of several inputs, with its place as ``index``."""
    return type(error)(error.message, hint=error.hint, **{**error.details, "index": place})


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
