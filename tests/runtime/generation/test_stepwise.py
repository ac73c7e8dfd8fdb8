from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from gpux.errors import ContextLengthError, InputError, NumericError, UsageError
from gpux.runtime.generation.choose.row import Emitted
from gpux.runtime.generation.loops.request import DecodeRequest
from gpux.runtime.generation.loops.stepwise import generate
from gpux.runtime.generation.options import GenerationOptions
from gpux.system.cancel import CancelToken
from tests.runtime.generation.fake_state import TableState
from tests.runtime.generation.golden import ARRAYS, GOLDEN, name, options

PROMPTS = [(2,), (5, 6), (7, 8, 9, 8), (11, 3, 2)]
GREEDY = [case for case in GOLDEN["written"] if case["options"].get("num_beams", 1) == 1]


def rows(emitted: list[Emitted]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for item in emitted:
        found.setdefault(item.row, []).extend([] if item.token is None else [item.token])
    return found


def reasons(emitted: list[Emitted]) -> dict[int, str]:
    ends = [item for item in emitted if item.finish is not None]
    assert len({item.row for item in ends}) == len(ends)
    return {item.row: str(item.finish) for item in ends}


def write(prompts: Any = PROMPTS, limit: int | None = None, **given: Any) -> list[Emitted]:
    return list(generate(TableState(limit), DecodeRequest(prompts, GenerationOptions().with_options(**given))))


@pytest.mark.parametrize("case", GREEDY, ids=name)
def test_greedy_tokens_are_those_of_transformers(case: dict[str, Any]) -> None:
    found = rows(list(generate(TableState(), DecodeRequest([case["prompt"]], options(case)))))
    assert found == {0: case["tokens"][0]}


@pytest.mark.parametrize("number", range(len(GREEDY) // len(PROMPTS)))
def test_a_batch_writes_what_its_rows_alone_write(number: int) -> None:
    cases = GREEDY[number * len(PROMPTS) :][: len(PROMPTS)]
    found = rows(list(generate(TableState(), DecodeRequest([case["prompt"] for case in cases], options(cases[0])))))
    assert found == {place: case["tokens"][0] for place, case in enumerate(cases)}


def test_rows_that_end_leave_the_state() -> None:
    state = TableState()
    found = list(generate(state, DecodeRequest(PROMPTS, GenerationOptions(max_new_tokens=7, eos_token_ids=(3,)))))
    assert reasons(found) == {0: "length", 1: "length", 2: "eos", 3: "eos"}
    assert state.calls == [
        *("start 4", "step 4", "keep [0, 1, 3]", "step 3", "step 3", "step 3", "step 3", "keep [0, 1]", "step 2")
    ]


def test_state_holds_the_yielded_tokens_without_the_last() -> None:
    state = TableState()
    found = rows(list(generate(state, DecodeRequest([(2,)], GenerationOptions(max_new_tokens=5)))))
    assert state.cached == [[2, *found[0][:-1]]]


def test_each_token_is_yielded_before_the_next_is_computed() -> None:
    state = TableState()
    writing = generate(state, DecodeRequest([(2,)], GenerationOptions(max_new_tokens=5)))
    assert state.calls == []
    next(writing)
    assert state.calls == ["start 1"]
    next(writing)
    assert state.calls == ["start 1", "step 1"]


def test_the_order_of_reasons() -> None:
    def ends(number: int, token: int) -> bool:
        calls.append((number, token))
        return True

    calls: list[tuple[int, int]] = []
    both = GenerationOptions(max_new_tokens=1, eos_token_ids=(28,))
    assert reasons(list(generate(TableState(), DecodeRequest([(2,), (5, 6)], both), ends))) == {0: "eos", 1: "stop"}
    assert calls == [(1, 33)]  # an end token has no text
    assert reasons(list(generate(TableState(), DecodeRequest([(2,)], both.with_options(eos_token_id=[]))))) == {
        0: "length"
    }


def test_end_of_the_context_is_a_length() -> None:
    found = write(limit=6, eos_token_id=[])
    assert {row: len(tokens) for row, tokens in rows(found).items()} == {0: 5, 1: 4, 2: 2, 3: 3}
    assert set(reasons(found).values()) == {"length"}


def test_the_end_is_forced_where_the_context_ends() -> None:
    found = write(limit=6, forced_eos_token_id=3, eos_token_id=[3], min_new_tokens=9)
    assert [tokens[-1] for tokens in rows(found).values()] == [3] * 4
    assert set(reasons(found).values()) == {"eos"}


@pytest.mark.parametrize("limit", [2, 3])
def test_a_prompt_that_leaves_no_room_is_an_error(limit: int) -> None:
    with pytest.raises(ContextLengthError, match=f"the prompt has 3 tokens, and the context has {limit}") as caught:
        write([(1, 2, 3)], limit=limit)
    assert caught.value.details == {"tokens": 3, "limit": limit - 1}


def test_an_empty_prompt_is_an_error() -> None:
    with pytest.raises(InputError, match="a prompt has no tokens"):
        write([(1,), ()])


def test_no_prompts_are_no_rows() -> None:
    assert write([]) == []


def test_beams_are_refused() -> None:
    with pytest.raises(UsageError, match="num_beams"):
        write(num_beams=2)


def test_several_sequences_share_their_prefill() -> None:
    state = TableState()
    given = GenerationOptions(do_sample=True, num_return_sequences=3, seed=5, max_new_tokens=6)
    found = rows(list(generate(state, DecodeRequest([(2,), (5, 6)], given))))
    assert state.calls[:2] == ["start 2", "keep [0, 0, 0, 1, 1, 1]"]
    assert sorted(found) == [0, 1, 2, 3, 4, 5]
    assert len({tuple(tokens) for tokens in found.values()}) == 6


def test_seeds_reproduce_whatever_the_batch() -> None:
    given = GenerationOptions(do_sample=True, seed=5, max_new_tokens=12, eos_token_ids=(3,))
    together = rows(list(generate(TableState(), DecodeRequest(PROMPTS, given))))
    assert together == rows(list(generate(TableState(), DecodeRequest(PROMPTS, given))))
    for number, prompt in enumerate(PROMPTS):
        assert (
            rows(list(generate(TableState(), DecodeRequest([prompt], given, random_streams=[number]))))[0]
            == together[number]
        )
    assert together != rows(list(generate(TableState(), DecodeRequest(PROMPTS, given.with_options(seed=6)))))


@pytest.mark.parametrize("name", ["random_streams", "encoder_input_ids", "text_context"])
def test_lists_of_another_length_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"1 {name} for 2"):
        DecodeRequest([(1,), (2,)], GenerationOptions(), **{name: [[0]]})  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [{}, {"repetition_penalty": 1.5}], ids=str)
def test_logprobs_are_of_the_models_own_distribution(given: dict[str, Any]) -> None:
    found = write([(2,)], logprobs=3, max_new_tokens=4, **given)
    state = TableState()
    scores = state.start([(2,)])
    for item in found:
        exact = scores[0].astype(np.float64)
        logs = exact - np.log(np.exp(exact).sum())
        order = np.argsort(-logs)[:3]
        assert item.score is not None and item.token is not None
        assert item.score.logprob == pytest.approx(logs[item.token], abs=1e-5)
        assert [token for token, _ in item.score.top] == order.tolist()
        np.testing.assert_allclose([value for _, value in item.score.top], logs[order], atol=1e-5)
        scores = state.step(np.array([item.token], np.int64))


def test_logprobs_0_reports_no_other_tokens() -> None:
    assert [item.score.top for item in write(logprobs=0, max_new_tokens=1) if item.score] == [()] * 4


def test_cancel_before_the_prompt_is_read() -> None:
    token, state = CancelToken(), TableState()
    token.cancel()
    found = list(generate(state, DecodeRequest(PROMPTS, GenerationOptions(), cancel=token)))
    assert found == [Emitted(row, None, None, "cancelled") for row in range(4)]
    assert state.calls == []


def test_cancel_ends_unfinished_rows() -> None:
    token, state = CancelToken(), TableState()
    given = GenerationOptions(max_new_tokens=9, eos_token_ids=(14,))
    found = []
    for item in generate(state, DecodeRequest(PROMPTS, given, cancel=token)):
        found.append(item)
        token.cancel()
    assert [item.token for item in found] == [28, 33, 14, 24, None, None, None]
    assert reasons(found) == {0: "cancelled", 1: "cancelled", 2: "eos", 3: "cancelled"}
    assert "step" not in str(state.calls)


def test_deadline_ends_unfinished_rows() -> None:
    state = TableState()
    assert reasons(
        list(generate(state, DecodeRequest(PROMPTS, GenerationOptions(), deadline=time.monotonic() - 1)))
    ) == dict.fromkeys(range(4), "deadline")
    assert state.calls == []
    assert (
        len(
            list(
                generate(
                    state, DecodeRequest([(2,)], GenerationOptions(max_new_tokens=5), deadline=time.monotonic() + 60)
                )
            )
        )
        == 5
    )


@pytest.mark.parametrize("given", [{}, {"do_sample": True}, {"repetition_penalty": 2.0}], ids=str)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_an_error(given: dict[str, Any], value: float) -> None:
    last = ARRAYS["table/last"].copy()
    last[28, 5] = value  # after the first token
    state = TableState(last=last)
    writing = generate(state, DecodeRequest([(2,), (2,)], GenerationOptions(seed=1, bad_words=((9,),), **given)))
    if not given.get("do_sample"):
        assert next(writing).token == 28
    with pytest.raises(NumericError):
        list(writing)


class Only:
    """Allows these tokens, one after the other."""

    def __init__(self, tokens: list[int]) -> None:
        self.left = list(tokens)
        self.seen: list[int] = []

    @property
    def finished(self) -> bool:
        return not self.left

    def mask(self, scores: Any) -> Any:
        kept = scores[self.left[0]]
        scores.fill(-np.inf)
        scores[self.left[0]] = kept
        return scores

    def accept(self, token: int) -> None:
        self.seen.append(token)
        assert self.left.pop(0) == token


def test_constraint_decides_tokens_and_end() -> None:
    first, second = Only([9, 8, 7]), Only([3, 3, 3, 3])
    found = list(
        generate(
            TableState(),
            DecodeRequest(
                [(2,), (5, 6)], GenerationOptions(eos_token_ids=(7,)), constraint=iter([first, second]).__next__
            ),
        )
    )
    assert rows(found) == {0: [9, 8, 7], 1: [3, 3, 3, 3]}
    assert reasons(found) == {0: "eos", 1: "eos"}
    assert first.seen == [9, 8]


def test_a_constraint_against_everything_is_an_error() -> None:
    with pytest.raises(UsageError, match="every next token is forbidden"):
        list(
            generate(
                TableState(),
                DecodeRequest([(2,)], GenerationOptions(suppress_tokens=(9,)), constraint=iter([Only([9])]).__next__),
            )
        )


def test_long_answers_fit() -> None:
    assert len(rows(write([(2,)], max_new_tokens=3000, repetition_penalty=1.01))[0]) == 3000
