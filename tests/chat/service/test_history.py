"""Which messages of a conversation a model gets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpux.chat.history import ANSWER, fitting, room_for_answer, surely_fits, turns, without_oldest
from gpux.chat.values import Message

ROLES = {"s": "system", "u": "user", "a": "assistant"}


def messages(roles: str, size: int = 10) -> tuple[Message, ...]:
    return tuple(Message(role=ROLES[one], content=str(place) * size) for place, one in enumerate(roles))  # type: ignore[arg-type]


def kept(found: Sequence[Message], among: Sequence[Message]) -> list[int]:
    return [place for place, one in enumerate(among) if any(one is other for other in found)]


class Counter:
    """Counts a token for each message."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, given: Sequence[Message]) -> int:
        self.calls += 1
        return len(given)


def fit(given: Sequence[Message], tokens: int) -> tuple[list[int], int]:
    counter = Counter()
    found = asyncio.run(fitting(given, tokens, counter))
    return kept(found, given), counter.calls


def test_a_turn_is_a_message_of_the_user_with_its_answers() -> None:
    given = messages("suaauau")
    assert [[kept([one], given)[0] for one in turn] for turn in turns(given)] == [[1, 2, 3], [4, 5], [6]]


def test_what_fits_is_whole() -> None:
    assert fit(messages("suauau"), 1000) == ([0, 1, 2, 3, 4, 5], 0)
    assert fit(messages("suauau"), 6) == ([0, 1, 2, 3, 4, 5], 1)


@pytest.mark.parametrize(
    ("roles", "tokens", "expected"),
    [
        ("suauau", 5, [0, 3, 4, 5]),
        ("suauau", 4, [0, 3, 4, 5]),
        ("suauau", 3, [0, 5]),
        ("suauau", 1, [0, 5]),
        ("uasuau", 4, [2, 3, 4, 5]),
        ("auau", 3, [1, 2, 3]),
        ("u", 0, [0]),
        ("su", 0, [0, 1]),
    ],
)
def test_the_oldest_turns_are_left_out_whole(roles: str, tokens: int, expected: list[int]) -> None:
    assert fit(messages(roles), tokens)[0] == expected


@given(st.text(alphabet="sua", max_size=40), st.integers(0, 45))
def test_as_much_as_fits_is_kept(roles: str, tokens: int) -> None:
    given = messages(roles + "u")
    found, calls = fit(given, tokens)
    turn_count = len(turns(given))
    choices = [kept(without_oldest(given, number), given) for number in range(turn_count)]
    assert found == next((one for one in choices if len(one) <= tokens), choices[-1])
    assert calls <= 2 + turn_count.bit_length()
    assert [one for one in range(len(given)) if given[one].role == "system" or one == len(given) - 1] == [
        one for one in found if given[one].role == "system" or one == len(given) - 1
    ]


def test_a_token_has_at_least_one_byte() -> None:
    given: list[Any] = [Message(role="user", content="é" * 1000)]
    assert not surely_fits(given, 2000)
    assert surely_fits(given, 2500)


def test_a_quarter_of_the_context_at_most_is_left_free() -> None:
    assert room_for_answer(1 << 17, None) == ANSWER
    assert room_for_answer(1 << 17, 10) == 10
    assert room_for_answer(400, None) == 100
    assert room_for_answer(400, 300) == 100
