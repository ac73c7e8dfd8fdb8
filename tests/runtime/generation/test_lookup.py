from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpux.errors import UsageError
from gpux.runtime.generation.loops import lookup, stepwise
from gpux.runtime.generation.loops.request import DecodeRequest
from gpux.runtime.generation.options import GenerationOptions
from gpux.system.cancel import CancelToken
from tests.runtime.generation.fake_state import TableState
from tests.runtime.generation.test_stepwise import PROMPTS, Only, rows

KINDS: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 1.1},
    {"no_repeat_ngram_size": 4},
    {"do_sample": True, "seed": 3},
    {"temperature": 0.4, "top_p": 0.9, "seed": 3},
    {"logprobs": 2},
    {"eos_token_id": [23], "min_new_tokens": 20},
]


def proposed(ids: list[int], count: int) -> list[int]:
    return lookup.propose(np.array(ids, np.int64), count).tolist()


@pytest.mark.parametrize(
    ("ids", "count", "expected"),
    [
        ([1, 2, 3, 4, 5, 1, 2, 3], 2, [4, 5]),
        ([1, 2, 3, 4, 5, 1, 2, 3], 9, [4, 5, 1, 2, 3]),
        ([9, 3, 7, 2, 3, 8, 1, 2, 3], 1, [8]),  # two tokens before one
        ([1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3], 3, [5, 1, 2]),  # the latest of two
        ([1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3], 5, [4, 1, 2, 3, 5]),  # unless it has not as many after it
        ([5, 5, 5, 5], 2, [5]),
        ([7, 8, 7], 4, [8, 7]),
        ([1, 2, 3], 4, []),
        ([1], 4, []),
        ([1, 1], 0, []),
        ([1, 1], -1, []),
        ([1, 1], 3, [1]),
    ],
)
def test_proposals_are_the_tokens_that_followed_before(ids: list[int], count: int, expected: list[int]) -> None:
    assert proposed(ids, count) == expected


@given(ids=st.lists(st.integers(0, 4), min_size=1, max_size=40), count=st.integers(1, 6))
def test_proposals_follow_the_longest_repeated_ending(ids: list[int], count: int) -> None:
    found = proposed(ids, count)
    for size in (3, 2, 1):
        places = [place for place in range(size, len(ids)) if ids[place - size : place] == ids[len(ids) - size :]]
        if places:
            assert found in [ids[place : place + count] for place in places]
            assert len(found) == min(count, len(ids) - places[0])
            return
    assert found == []


@pytest.mark.parametrize("given", KINDS, ids=str)
@pytest.mark.parametrize("prompt", [*PROMPTS, (23, 37, 23), tuple(range(40)) * 2], ids=len)
def test_the_tokens_are_those_of_single_steps(given: dict[str, Any], prompt: tuple[int, ...]) -> None:
    options = GenerationOptions(max_new_tokens=60).with_options(**given)
    expected = list(stepwise.generate(TableState(), DecodeRequest([prompt], options)))
    state = TableState()
    found = list(lookup.generate(state, DecodeRequest([prompt], options.with_options(prompt_lookup_tokens=5))))
    assert [(item.token, item.finish, item.score) for item in found] == [
        (item.token, item.finish, item.score) for item in expected
    ]
    assert state.cached == [[*prompt, *rows(found)[0][:-1]]]


def test_it_needs_fewer_steps() -> None:
    state = TableState()
    options = GenerationOptions(max_new_tokens=60, prompt_lookup_tokens=5)
    assert len(list(lookup.generate(state, DecodeRequest([(4, 23, 37, 23)], options)))) == 60
    assert len(state.calls) < 20


@pytest.mark.parametrize("limit", range(5, 30))
def test_context_is_never_exceeded(limit: int) -> None:
    options = GenerationOptions(max_new_tokens=100, prompt_lookup_tokens=7)
    found = list(lookup.generate(TableState(limit), DecodeRequest([(4, 23, 37, 23)], options)))
    assert len(found) == limit - 4 and found[-1].finish == "length"


def test_state_after_closing_holds_the_yielded_tokens() -> None:
    state = TableState()
    writing = lookup.generate(state, DecodeRequest([(4, 23, 37, 23)], GenerationOptions(prompt_lookup_tokens=6)))
    found = [next(writing).token for _ in range(11)]
    writing.close()  # type: ignore[attr-defined]
    assert state.cached == [[4, 23, 37, 23, *found[:-1]]]


def test_cancel_within_guessed_tokens() -> None:
    token, state = CancelToken(), TableState()
    found = []
    for item in lookup.generate(
        state, DecodeRequest([(4, 23, 37, 23)], GenerationOptions(prompt_lookup_tokens=6), cancel=token)
    ):
        found.append(item)
        if len(found) == 10:
            token.cancel()
    assert found[-1].finish == "cancelled" and found[-1].token is None and len(found) == 11
    assert state.cached == [[4, 23, 37, 23, *rows(found)[0][:-1]]]


def test_cancel_before_the_prompt_is_read() -> None:
    token, state = CancelToken(), TableState()
    token.cancel()
    found = list(lookup.generate(state, DecodeRequest([(1,)], GenerationOptions(prompt_lookup_tokens=6), cancel=token)))
    assert [item.finish for item in found] == ["cancelled"] and state.calls == []


def test_stop_texts_and_constraints_see_every_token() -> None:
    calls: list[int] = []

    def stops(number: int, token: int) -> bool:
        calls.append(token)
        return len(calls) == 8

    options = GenerationOptions(prompt_lookup_tokens=6)
    found = list(lookup.generate(TableState(), DecodeRequest([(4, 23, 37, 23)], options), stops))
    assert calls == rows(found)[0] and found[-1].finish == "stop"
    order = [5, 6, 5, 6, 5, 6, 7]
    found = list(
        lookup.generate(TableState(), DecodeRequest([(5, 6)], options, constraint=iter([Only(order)]).__next__))
    )
    assert rows(found)[0] == order


@pytest.mark.parametrize(("prompts", "tokens"), [([(1,), (2,)], 3), ([], 3), ([(1,)], 0)])
def test_prompt_lookup_is_for_one_prompt(prompts: list[tuple[int, ...]], tokens: int) -> None:
    with pytest.raises(UsageError, match="prompt_lookup_tokens"):
        list(lookup.generate(TableState(), DecodeRequest(prompts, GenerationOptions(prompt_lookup_tokens=tokens))))
