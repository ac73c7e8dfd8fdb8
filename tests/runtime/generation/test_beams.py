from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from gpux.errors import ContextLengthError, NumericError, UsageError
from gpux.runtime.generation.loops.beams import Beam, search
from gpux.runtime.generation.loops.request import DecodeRequest
from gpux.runtime.generation.options import GenerationOptions
from gpux.system.cancel import CancelToken
from tests.runtime.generation.fake_state import TableState
from tests.runtime.generation.golden import ARRAYS, GOLDEN, name, options
from tests.runtime.generation.test_stepwise import PROMPTS

SEARCHED = [case for case in GOLDEN["written"] if case["options"].get("num_beams", 1) > 1]


def agree(found: Sequence[Beam], case: dict[str, Any]) -> None:
    assert [list(beam.tokens) for beam in found] == case["tokens"]
    np.testing.assert_allclose([beam.score for beam in found], case["scores"], rtol=1e-5)


@pytest.mark.parametrize("case", SEARCHED, ids=name)
def test_beams_are_those_of_transformers(case: dict[str, Any]) -> None:
    agree(search(TableState(), DecodeRequest([case["prompt"]], options(case))), case)


@pytest.mark.parametrize("number", range(len(SEARCHED) // len(PROMPTS)))
def test_prompts_together_have_the_beams_of_each_alone(number: int) -> None:
    cases = SEARCHED[number * len(PROMPTS) :][: len(PROMPTS)]
    given = options(cases[0])
    found = search(TableState(), DecodeRequest([case["prompt"] for case in cases], given))
    for place, case in enumerate(cases):
        agree(found[place * given.num_return_sequences :][: given.num_return_sequences], case)


def test_the_golden_searches_differ() -> None:
    assert len({str(case["tokens"]) for case in SEARCHED}) > 25
    lengths = {len(tokens) for case in SEARCHED for tokens in case["tokens"]}
    assert len(lengths) > 8


def test_finished_prompt_leaves_the_state() -> None:
    state = TableState()
    search(
        state,
        DecodeRequest(
            PROMPTS, GenerationOptions(num_beams=3, early_stopping=True, eos_token_ids=(3,), max_new_tokens=16)
        ),
    )
    steps = [int(call.split()[1]) for call in state.calls if call.startswith("step")]
    assert steps[0] == 12 and steps[-1] < 12 and steps == sorted(steps, reverse=True)


def test_no_step_follows_the_last_token() -> None:
    state = TableState()
    search(state, DecodeRequest([(2,)], GenerationOptions(num_beams=2, max_new_tokens=5)))
    assert sum(call.startswith("step") for call in state.calls) == 4


def test_one_beam_is_greedy() -> None:
    case = next(case for case in GOLDEN["written"] if case["options"].get("num_beams", 1) == 1)
    found = search(TableState(), DecodeRequest([case["prompt"]], options(case)))
    assert [list(beam.tokens) for beam in found] == case["tokens"]


def test_beams_have_a_finish_reason() -> None:
    found = search(
        TableState(), DecodeRequest([(2,)], GenerationOptions(num_beams=4, num_return_sequences=4, eos_token_ids=(3,)))
    )
    assert {beam.finish for beam in found if beam.tokens[-1] == 3} == {"eos"}
    found = search(TableState(), DecodeRequest([(5, 6)], GenerationOptions(num_beams=2, max_new_tokens=3)))
    assert [beam.finish for beam in found] == ["length"]


def test_a_stop_text_ends_a_beam_as_an_end_token_does() -> None:
    given = GenerationOptions(num_beams=4, num_return_sequences=4, max_new_tokens=16)
    expected = search(TableState(), DecodeRequest(PROMPTS, given.with_options(eos_token_id=3)))
    found = search(TableState(), DecodeRequest(PROMPTS, given), lambda tokens: tokens[-1] == 3)
    assert [(beam.tokens, beam.score) for beam in found] == [(beam.tokens, beam.score) for beam in expected]
    assert {beam.finish for beam in found} == {"stop", "length"}


def test_each_prompt_ends_with_the_context() -> None:
    found = search(TableState(7), DecodeRequest(PROMPTS, GenerationOptions(num_beams=3)))
    assert [len(beam.tokens) for beam in found] == [6, 5, 3, 4]
    with pytest.raises(ContextLengthError):
        search(TableState(4), DecodeRequest(PROMPTS, GenerationOptions(num_beams=3)))


@pytest.mark.parametrize("given", [{"do_sample": True}, {"logprobs": 1}], ids=str)
def test_options_that_beams_do_not_support(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="num_beams"):
        search(TableState(), DecodeRequest([(2,)], GenerationOptions(**given)))


def test_scores_that_are_not_finite_are_an_error() -> None:
    last = ARRAYS["table/last"].copy()
    last[28, 5] = np.nan
    with pytest.raises(NumericError):
        search(TableState(last=last), DecodeRequest([(2,)], GenerationOptions(num_beams=3)))


def test_forbidding_every_token_is_an_error() -> None:
    with pytest.raises(UsageError, match="every next token is forbidden"):
        search(TableState(), DecodeRequest([(2,)], GenerationOptions(num_beams=3, suppress_tokens=tuple(range(40)))))


class CountedToken(CancelToken):
    """Set after so many looks."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    @property
    def cancelled(self) -> bool:
        self.looks -= 1
        return self.looks < 0


def test_cancelled_search_returns_the_best_so_far() -> None:
    given = GenerationOptions(num_beams=3, num_return_sequences=3, eos_token_ids=(3,), length_penalty=-1.0)
    found = search(TableState(), DecodeRequest([(2,), (7, 8, 9, 8)], given, cancel=CountedToken(4)))
    assert len(found) == 6 and {beam.finish for beam in found} == {"cancelled", "eos"}
    assert all(len(beam.tokens) == 4 for beam in found if beam.finish == "cancelled")
    for several in (found[:3], found[3:]):
        assert [beam.score for beam in several] == sorted((beam.score for beam in several), reverse=True)


def test_deadline_before_the_prompt_returns_empty_beams() -> None:
    state = TableState()
    given = GenerationOptions(num_beams=3, num_return_sequences=2)
    found = search(state, DecodeRequest([(2,)], given, deadline=time.monotonic() - 1))
    assert [(beam.tokens, beam.finish) for beam in found] == [((), "deadline")] * 2
    assert state.calls == []


def test_no_prompts_have_no_beams() -> None:
    assert search(TableState(), DecodeRequest([], GenerationOptions(num_beams=3))) == []


def test_beams_continue_if_every_likely_token_is_an_end() -> None:
    last = np.zeros((40, 40), np.float32)
    last[:, [1, 2, 3, 4]] = 3.0
    given = GenerationOptions(
        num_beams=2, eos_token_ids=(1, 2, 3, 4), early_stopping="never", length_penalty=6.0, max_new_tokens=6
    )
    found = search(TableState(last=last, before=np.zeros((40, 40), np.float32)), DecodeRequest([(9,)], given))
    assert len(found[0].tokens) == 6 and found[0].score > -0.1
