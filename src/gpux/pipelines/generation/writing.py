"""Decodes one batch of prompts to texts, each in pieces."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace

import tokenizers

from gpux.runtime.generation.choose.row import Emitted
from gpux.runtime.generation.engine.state import State
from gpux.runtime.generation.loops import beams, lookup, stepwise
from gpux.runtime.generation.loops.request import DecodeRequest
from gpux.runtime.generation.results import FinishReason, Generation, Timings, TokenScore
from gpux.runtime.generation.text import TextStream

#: (number of the sequence, its next piece of text)
Piece = tuple[int, str]


@dataclass
class Sequenced:
    """One sequence while it is generated."""

    stream: TextStream
    prompt_tokens: int
    pieces: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    scores: list[TokenScore] = field(default_factory=list)
    finish: FinishReason = "length"
    fresh: str = ""  #: text that the newest token added

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
    rows = _rows(request, tokenizer)
    first, steps = 0.0, 0
    for emitted in _emitted(state, request, rows):
        first = first or time.monotonic()
        row = rows[emitted.row]
        if piece := _taken(row, emitted):
            row.pieces.append(piece)
            yield emitted.row, piece
        steps = max(steps, len(row.tokens))
    timings = _timings(state, started, first, steps)
    return tuple(row.generation(timings) for row in rows)


def _emitted(state: State, request: DecodeRequest, rows: Sequence[Sequenced]) -> Iterator[Emitted]:
    decode = lookup.generate if request.options.prompt_lookup_tokens else stepwise.generate

    def stops(number: int, token: int) -> bool:
        row = rows[number]
        row.fresh = row.stream.push(token)
        return row.stream.stopped_by is not None

    return decode(state, request, stops)


def _taken(row: Sequenced, emitted: Emitted) -> str:
    """The text that this token adds to a row."""
    piece, row.fresh = row.fresh, ""
    if emitted.token is not None:
        row.tokens.append(emitted.token)
    if emitted.score is not None:
        row.scores.append(emitted.score)
    if emitted.finish is not None:
        row.finish = emitted.finish
        piece += row.stream.finish()
        if row.stream.stopped_by is not None and row.finish in (
            "eos",
            "length",
        ):  # the stop text was in the text that was held back
            row.finish = "stop"
    return piece


def _rows(request: DecodeRequest, tokenizer: tokenizers.Tokenizer) -> list[Sequenced]:
    context = request.prompts if request.text_context is None else request.text_context
    return [
        Sequenced(
            TextStream(tokenizer, request.options.stop, context[number], stop_strings=request.options.stop_strings),
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
    rows = _rows(request, tokenizer)
    ends = frozenset(request.options.eos_token_ids)
    written = []
    for number, (row, beam) in enumerate(zip(rows, found, strict=True)):
        row.tokens, row.finish = list(beam.tokens), beam.finish
        text = "".join(row.stream.push(token) for token in beam.tokens if token not in ends) + row.stream.finish()
        row.pieces.append(text)
        written.append(replace(row.generation(timings), score=beam.score))
        yield number, text
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
