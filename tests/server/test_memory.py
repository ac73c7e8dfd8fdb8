"""Which models are unloaded for another one, by their sizes and last use."""

from __future__ import annotations

import pytest

from gpux.server.memory import Held, Limits, surplus, victims

OLD, NEW, BUSY = Held("old", 30, True, 1.0), Held("new", 50, True, 2.0), Held("busy", 20, False)
LOADS = Held("loads", 40, False, growth=25)


@pytest.mark.parametrize(
    ("needed", "limits", "expected"),
    [
        (10, Limits(), []),
        (10, Limits(memory=110), []),
        (10, Limits(memory=109), ["old"]),
        (41, Limits(memory=110), ["old", "new"]),
        (90, Limits(memory=110), ["old", "new"]),
        (91, Limits(memory=110), None),
        (1, Limits(models=4), []),
        (1, Limits(models=3), ["old"]),
        (1, Limits(models=2), ["old", "new"]),
        (1, Limits(models=1), None),
        (60, Limits(available=60), []),
        (60, Limits(available=30), ["old"]),
        (60, Limits(available=29), ["old", "new"]),
        (120, Limits(available=30), None),
        (10, Limits(models=3, memory=60), ["old", "new"]),
    ],
)
def test_the_least_recently_used_idle_models_are_unloaded_and_none_in_vain(
    needed: int, limits: Limits, expected: list[str] | None
) -> None:
    assert victims(needed, [NEW, BUSY, OLD], limits) == expected


def test_what_a_loading_model_has_yet_to_take_is_not_available() -> None:
    assert victims(35, [OLD, LOADS], Limits(available=60)) == []
    assert victims(36, [OLD, LOADS], Limits(available=60)) == ["old"]
    assert victims(66, [LOADS], Limits(available=90)) is None


def test_idle_models_are_unloaded_when_all_together_have_grown_beyond_the_limit() -> None:
    assert surplus([NEW, BUSY, OLD], 100) == []
    assert surplus([NEW, BUSY, OLD], 99) == ["old"]
    assert surplus([NEW, BUSY, OLD], 1) == ["old", "new"]
    assert surplus([NEW], 1) == []
