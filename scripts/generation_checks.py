"""Compares the tokens that gpux generates with a stored variant with those of transformers, row by row.

A first difference is accepted only where torch's two best scores are less than :data:`TIE` apart (counted as a tie), or
where torch itself chooses gpux's token without its cache (counted as unsteady: an expert router at its threshold
changes scores by more than rounding does).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from gpux.errors import GpuxError
from gpux.runtime.generation.choose.row import Emitted
from gpux.runtime.generation.engine import calls
from gpux.runtime.generation.loops import beams, lookup, stepwise
from gpux.runtime.generation.loops.beams import Beam
from gpux.runtime.generation.loops.request import DecodeRequest
from gpux.runtime.generation.options import GenerationOptions
from scripts.generation_models import Stored, StoredDecoder, options_of

TIE = 1e-4
#: Options of both sides besides the length; the names are those of the response of ``generation_reference``.
VARIED: dict[str, Any] = {"no_repeat_ngram_size": 1}
SEARCHES: dict[str, dict[str, Any]] = {
    "plain": {"num_beams": 3, "num_return_sequences": 3, "length_penalty": 1.0, "early_stopping": False},
    "long": {"num_beams": 3, "num_return_sequences": 3, "length_penalty": 2.0, "early_stopping": False}
    | {"no_repeat_ngram_size": 2},
    "early": {"num_beams": 3, "num_return_sequences": 1, "length_penalty": 0.5, "early_stopping": True},
}
_PIECE = 5  # tokens of one call in the check of chunked prompts


@dataclass
class Tally:
    """Rows of one check."""

    equal: int = 0
    ties: int = 0
    unsteady: int = 0
    wrong: list[str] = field(default_factory=list)  #: the differences that are not accepted

    def count(self, what: str, found: Sequence[int], expected: Mapping[str, Any]) -> None:
        """Compare one row with its reference."""
        wanted = expected["tokens"]
        place = _first_difference(found, wanted)
        if place is None:
            self.equal += 1
        elif place < min(len(found), len(wanted)) and expected["gaps"][place] < TIE:
            self.ties += 1
        elif place < len(found) and list(found[place : place + 1]) == expected.get("uncached", [])[place : place + 1]:
            self.unsteady += 1
        else:
            near = f", torch's gap there is {expected['gaps'][place]:.1e}" if place < len(wanted) else ""
            self.wrong.append(f"{what}: token {place}: {_at(found, place)} instead of {_at(wanted, place)}{near}")

    def count_beams(
        self, what: str, found: Sequence[Beam], wanted: Sequence[Mapping[str, Any]], penalty: float
    ) -> None:
        """Compare the beams of one row with their references; beams with nearly equal scores may be exchanged."""
        if [list(beam.tokens) for beam in found] == [beam["tokens"] for beam in wanted]:
            self.equal += 1
        elif all(_as_good(beam, other, penalty) for beam, other in zip(found, wanted, strict=True)):
            self.ties += 1
        else:
            actual = [(len(beam.tokens), beam.score) for beam in found]
            self.wrong.append(f"{what}: {actual} instead of {[(len(b['tokens']), b['score']) for b in wanted]}")

    def to_dict(self) -> dict[str, Any]:
        """For a row of the matrix."""
        return {"equal": self.equal, "ties": self.ties, "unsteady": self.unsteady, "wrong": self.wrong}


def _first_difference(found: Sequence[int], wanted: Sequence[int]) -> int | None:
    if list(found) == list(wanted):
        return None
    pairs = enumerate(zip(found, wanted, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(found), len(wanted)))


def _at(tokens: Sequence[int], place: int) -> int | str:
    return tokens[place] if place < len(tokens) else "an end"


def _as_good(beam: Beam, other: Mapping[str, Any], penalty: float) -> bool:
    """Whether two beams are equal or their summed log probabilities are a tie."""
    tokens: list[int] = other["tokens"]
    mine, its = beam.score * len(beam.tokens) ** penalty, float(other["score"]) * len(tokens) ** penalty
    return list(beam.tokens) == tokens or abs(mine - its) < TIE


def _own(emitted: Sequence[Emitted]) -> dict[str, Any]:
    """Tokens of gpux in the format of a reference, for comparing two runs of gpux."""
    known = [one for one in emitted if one.token is not None and one.score is not None]
    gaps = [one.score.top[0][1] - one.score.top[1][1] for one in known if one.score is not None]
    return {"tokens": [one.token for one in known], "gaps": gaps}


def _emitted(model: StoredDecoder, prompts: Sequence[Sequence[int]], options: GenerationOptions) -> list[list[Emitted]]:
    state = model.decoder.open(options.max_new_tokens)
    found: list[list[Emitted]] = [[] for _ in prompts]
    try:
        for one in stepwise.generate(state, DecodeRequest(prompts, options)):
            found[one.row].append(one)
    finally:
        state.close()
    return found


class Checks:
    """All checks of one variant.

    Args:
        model: the variant with its rows.
        folder: where its configuration is.
        reference: the response of ``generation_reference``.
        request: the request to it.
    """

    def __init__(self, model: Stored, folder: Path, reference: Mapping[str, Any], request: Mapping[str, Any]) -> None:
        self._model, self._folder = model, folder
        self._reference, self._request = reference, request
        self._ends = tuple(reference["ends"])

    def run(self) -> dict[str, dict[str, Any]]:
        """Name of the check -> how many rows are equal, tie or differ."""
        found = {"batch 1": self.greedy(alone=True), "ragged": self.greedy(alone=False), "lookup": self.lookup()}
        if self._request["beams"]:
            found |= {"beams": self.beams(alone=True), "ragged beams": self.beams(alone=False)}
        if isinstance(self._model, StoredDecoder):
            with mock.patch.object(calls, "CHUNK", _PIECE):
                found["pieces"] = self.pieces()
            found["reuse"] = self.reuse(self._model)
            found["full"] = self.full(self._model)
        return {name: tally.to_dict() for name, tally in found.items()}

    def greedy(self, *, alone: bool) -> Tally:
        """Greedy: without end tokens, with the model's own, without repetition, and with an early end token."""
        tally = Tally()
        for name, options in self._modes():
            for rows in self._batches(alone=alone):
                written = self._written(rows, options)
                for row, tokens in zip(rows, written, strict=True):
                    tally.count(f"{name}, row {row}", tokens, self._reference[name][row])
        return tally

    def lookup(self) -> Tally:
        """Prompt lookup, each row alone."""
        tally = Tally()
        for name, options in self._modes():
            for row in range(self._model.count):
                tokens = self._written([row], replace(options, prompt_lookup_tokens=6), lookup.generate)[0]
                tally.count(f"{name}, row {row}", tokens, self._reference[name][row])
        return tally

    def beams(self, *, alone: bool) -> Tally:
        """Every search of the request."""
        tally = Tally()
        ends = tuple(sorted({*self._ends, *self._request["beam_ends"]}))
        for name, search in self._request["beams"].items():
            options = options_of(self._folder, eos_token_ids=ends, **search)
            count = options.num_return_sequences
            for rows in self._batches(alone=alone):
                found = self._searched(rows, options)
                for place, row in enumerate(rows):
                    wanted = self._reference["beams"][name][row]
                    mine = found[place * count : (place + 1) * count]
                    tally.count_beams(f"{name}, row {row}", mine, wanted, options.length_penalty)
        return tally

    def pieces(self) -> Tally:
        """All rows alone and as a batch, with chunked prompts."""
        tally, options = Tally(), options_of(self._folder, **self._room())
        for alone in (True, False):
            for rows in self._batches(alone=alone):
                for row, tokens in zip(rows, self._written(rows, options), strict=True):
                    tally.count(f"alone {alone}, row {row}", tokens, self._reference["config"][row])
        return tally

    def reuse(self, model: StoredDecoder) -> Tally:
        """A second turn on the first turn's cache, compared with the same turn on an empty cache."""
        tally, prompt = Tally(), min(model.prompts, key=len)
        room = min(16, ((model.limit or 1 << 20) - len(prompt) - 3) // 2)
        options = replace(options_of(self._folder, max_new_tokens=room), eos_token_ids=(), logprobs=2)
        kept, fresh = model.decoder.open(2 * room), model.decoder.open(room)
        first = [one.token for one in stepwise.generate(kept, DecodeRequest([prompt], options))]
        turn = [*prompt, *(token for token in first if token is not None), 7, 8, 9][: len(prompt) + room + 3]
        again = [one.token for one in stepwise.generate(kept, DecodeRequest([turn], options))]
        anew = list(stepwise.generate(fresh, DecodeRequest([turn], options)))
        tally.count("second turn", [token for token in again if token is not None], _own(anew))
        if kept.reused < len(prompt):
            tally.wrong.append(f"second turn: {kept.reused} tokens were reused")
        kept.close()
        fresh.close()
        return tally

    def full(self, model: StoredDecoder) -> Tally:
        """Ragged rows to the end of the context (128 tokens without a limit), compared with each row alone."""
        tally, limit = Tally(), model.limit or 128
        rng = np.random.default_rng(limit)
        prompts = [rng.integers(5, 300, size).tolist() for size in (limit - 8, limit // 6, limit // 2)]
        options = options_of(self._folder, max_new_tokens=limit, logprobs=2, no_repeat_ngram_size=2)
        options = replace(options, eos_token_ids=())
        try:
            together = _emitted(model, prompts, options)
        except GpuxError as exc:
            return Tally(wrong=[f"to the end: {type(exc).__name__}: {exc.message[:200]}"])
        for row, prompt in enumerate(prompts):
            alone = _own(_emitted(model, [prompt], options)[0])
            tally.count(f"to the end, row {row}", _own(together[row])["tokens"], alone)
        return tally

    def _modes(self) -> Iterator[tuple[str, GenerationOptions]]:
        room = self._room()
        yield "endless", replace(options_of(self._folder, **room), eos_token_ids=())
        yield "config", options_of(self._folder, **room)
        varied = options_of(self._folder, **room, **VARIED)
        yield "varied", replace(varied, eos_token_ids=())
        yield "ended", replace(varied, eos_token_ids=self._ends)

    def _room(self) -> dict[str, int]:
        return {"max_new_tokens": int(self._request["room"])}

    def _batches(self, *, alone: bool) -> list[list[int]]:
        rows = list(range(self._model.count))
        return [[row] for row in rows] if alone else [rows]

    def _written(
        self, rows: Sequence[int], options: GenerationOptions, generate: Any = stepwise.generate
    ) -> list[list[int]]:
        state = self._model.open(rows, options.max_new_tokens)
        found: list[list[int]] = [[] for _ in rows]
        try:
            for emitted in generate(state, DecodeRequest(self._model.prompts_of(rows), options)):
                found[emitted.row].append(emitted.token)
        finally:
            state.close()
        return found

    def _searched(self, rows: Sequence[int], options: GenerationOptions) -> list[Beam]:
        state = self._model.open(rows, options.max_new_tokens)
        try:
            return beams.search(state, DecodeRequest(self._model.prompts_of(rows), options))
        finally:
            state.close()
