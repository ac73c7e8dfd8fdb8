"""Decodes one batch of prompts to texts, each in pieces."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import tokenizers

from gpux.runtime.generation.choose.row import Emitted
from gpux.runtime.generation.engine.state import State
from gpux.runtime.generation.loops import beams, lookup, stepwise
from gpux.runtime.generation.loops.request import DecodeRequest
from gpux.runtime.generation.results import FinishReason, Generation, Timings, TokenScore
from gpux.runtime.generation.text import TextStream


class Piece(NamedTuple):
    """The next piece of one sequence; it ends between graphemes, as far as the text so far shows."""

    number: int  #: of the sequence: its prompt's number times ``num_return_sequences``, plus its own
    text: str  #: empty in a last piece whose tokens add no text, such as an end token
    tokens: tuple[int, ...] = ()  #: chosen since the last piece
    scores: tuple[TokenScore, ...] = ()  #: of these tokens, with ``logprobs``


@dataclass
class _Sequence:
    """One sequence while it is generated."""

    stream: TextStream
    prompt_tokens: int
    pieces: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    scores: list[TokenScore] = field(default_factory=list)
    finish: FinishReason = "length"
    fresh: str = ""  #: text that the newest token added
    given: int = 0  #: tokens that were part of a piece

    def generation(self, timings: Timings) -> Generation:
        """The result."""
        return Generation(
            "".join(self.pieces),
            tuple(self.tokens),
            self.finish,
            self.prompt_tokens,
            self.stream.stopped_by,
            tuple(self.scores),
            timings=timings,
        )


class Texts:
    """The texts of a request's sequences, from their tokens.

    Args:
        request: the prompts and options.
        tokenizer: decodes ids to text.
    """

    def __init__(self, request: DecodeRequest, tokenizer: tokenizers.Tokenizer) -> None:
        self._sequences = _sequences(request, tokenizer)

    def stops(self, number: int, token: int) -> bool:
        """Whether a stop text ends with this token of a sequence; called before :meth:`take`."""
        one = self._sequences[number]
        one.fresh = one.stream.push(token)
        return one.stream.stopped_by is not None

    def take(self, emitted: Emitted) -> Piece | None:
        """The piece that is complete with a token; None: no piece is complete."""
        one = self._sequences[emitted.row]
        text, one.fresh = one.fresh, ""
        if emitted.token is not None:
            one.tokens.append(emitted.token)
        if emitted.score is not None:
            one.scores.append(emitted.score)
        if emitted.finish is not None:
            one.finish = emitted.finish
            text += one.stream.finish()
            if one.stream.stopped_by is not None and one.finish in ("eos", "length"):
                one.finish = "stop"  # the stop text was in the text that was held back
        given = one.given
        if not text and (emitted.finish is None or given == len(one.tokens)):
            return None
        one.pieces.append(text)
        one.given = len(one.tokens)
        return Piece(emitted.row, text, tuple(one.tokens[given:]), tuple(one.scores[given:]))

    def generations(self, timings: Timings) -> tuple[Generation, ...]:
        """The results, in order."""
        return tuple(one.generation(timings) for one in self._sequences)


def write(
    state: State, request: DecodeRequest, tokenizer: tokenizers.Tokenizer
) -> Generator[Piece, None, tuple[Generation, ...]]:
    """Generate the sequences of a request: yields pieces of text, and returns the generations in order.

    Args:
        state: new; stays open.
        request: the prompts and options.
        tokenizer: decodes ids to text.

    Raises:
        ContextLengthError, CacheMemoryError, NumericError, UsageError: see :mod:`~gpux.runtime.generation.loops`.
    """
    if request.options.num_beams > 1:
        return (yield from _searched(state, request, tokenizer))
    started = time.monotonic()
    texts = Texts(request, tokenizer)
    first, steps, counts = 0.0, 0, [0] * request.sequences
    decode = lookup.generate if request.options.prompt_lookup_tokens else stepwise.generate
    for emitted in decode(state, request, texts.stops):
        first = first or time.monotonic()
        if piece := texts.take(emitted):
            yield piece
        counts[emitted.row] += emitted.token is not None
        steps = max(steps, counts[emitted.row])
    return texts.generations(_timings(state, started, first, steps))


def _sequences(request: DecodeRequest, tokenizer: tokenizers.Tokenizer) -> list[_Sequence]:
    context = request.prompts if request.text_context is None else request.text_context
    return [
        _Sequence(
            TextStream(
                tokenizer,
                request.options.stop,
                context[number],
                keep_special_tokens=request.options.keep_special_tokens,
                stop_strings=request.options.stop_strings,
            ),
            len(prompt),
        )
        for number, prompt in enumerate(request.prompts)
        for _ in range(request.options.num_return_sequences)
    ]


def _searched(
    state: State, request: DecodeRequest, tokenizer: tokenizers.Tokenizer
) -> Generator[Piece, None, tuple[Generation, ...]]:
    """Generate by beam search, whose result is known only at the end, so that each text is one piece."""
    started = time.monotonic()
    found = beams.search(state, request, _stop_found((*request.options.stop, *request.options.stop_strings), tokenizer))
    timings = Timings(decode=time.monotonic() - started, steps=max((len(beam.tokens) for beam in found), default=0))
    rows = _sequences(request, tokenizer)
    ends = frozenset(request.options.eos_token_ids)
    written = []
    for number, (row, beam) in enumerate(zip(rows, found, strict=True)):
        row.tokens, row.finish = list(beam.tokens), beam.finish
        text = "".join(row.stream.push(token) for token in beam.tokens if token not in ends) + row.stream.finish()
        row.pieces.append(text)
        written.append(replace(row.generation(timings), score=beam.score))
        yield Piece(number, text, tuple(row.tokens))
    return tuple(written)


def _stop_found(stops: Sequence[str], tokenizer: tokenizers.Tokenizer) -> Callable[[Sequence[int]], bool] | None:
    """Tests whether a stop text is near the end of a hypothesis; None if there are no stop texts."""
    if not stops:
        return None
    reach = max(len(stop.encode("utf-8", "surrogatepass")) for stop in stops) + 8  # in tokens of at least one byte

    def found(tokens: Sequence[int]) -> bool:
        ending = list(tokens[-reach:])
        texts = (tokenizer.decode(ending, skip_special_tokens=skip) for skip in (True, False))
        return any(stop in text for text in texts for stop in stops)

    return found


def _timings(state: State, started: float, first: float, steps: int) -> Timings:
    ended = time.monotonic()
    first = first or ended
    return Timings(first - started, ended - first, max(0, steps - 1), getattr(state, "reused", 0))
