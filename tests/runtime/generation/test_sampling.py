from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpux.errors import NumericError, UsageError
from gpux.runtime.generation.choose import sampling
from gpux.runtime.generation.choose.sampling import Chooser
from gpux.runtime.generation.options import GenerationOptions
from tests.runtime.generation.golden import ARRAYS, GOLDEN, name, options

rows = st.builds(
    lambda seed, size, kind: _row(seed, size, kind),
    st.integers(0, 2**31),
    st.integers(9, 900),
    st.sampled_from(["normal", "steep", "tied", "never", "flat", "peaked"]),
)


def _row(seed: int, size: int, kind: str) -> np.ndarray:
    random = np.random.default_rng(seed)
    found = random.standard_normal(size) * {"steep": 9, "flat": 0}.get(kind, 2)
    if kind == "tied":
        found = np.round(found)
    if kind == "never":
        found[random.random(size) < 0.6] = -np.inf
    if kind in ("never", "peaked"):
        found[size // 2] = 8.0
    return found.astype(np.float32)


def by_score(scores: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Each token's probability, equal scores in order."""
    return probabilities[np.lexsort((probabilities, scores))]


@pytest.mark.parametrize("case", GOLDEN["drawn"], ids=name)
def test_distributions_are_those_of_transformers(case: dict[str, Any]) -> None:
    scores, expected = ARRAYS[f"scores/{case['scores']}"], ARRAYS[case["expected"]]
    found = Chooser(options(case, do_sample=True)).probabilities(scores)
    if case["scores"].startswith("tied"):  # which of equals stay at the limit is an accident of torch.sort
        found, expected = by_score(scores, found), by_score(scores, expected)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(found > 0, expected > 0)


def test_the_golden_distributions_are_cut() -> None:
    assert sum(bool((ARRAYS[case["expected"]] == 0).any()) for case in GOLDEN["drawn"]) > 150


@pytest.mark.parametrize(
    "given",
    [
        {"top_k": 1},
        {"top_k": 7},
        {"top_k": 200},
        {"top_p": 0.01},
        {"top_p": 0.5},
        {"top_p": 0.97},
        {"top_p": 0.999999},
        {"min_p": 0.1},
        {"typical_p": 0.2},
        {"typical_p": 0.9},
    ],
    ids=str,
)
@given(scores=rows)
def test_a_large_vocabulary_is_cut_as_a_small_one(given: dict[str, Any], scores: np.ndarray) -> None:
    chooser = Chooser(GenerationOptions(do_sample=True).with_options(**given))
    expected = chooser.probabilities(scores)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "FEW", 8)
        patch.setattr(sampling, "_BLOCK", 4)
        patch.setattr(sampling, "_TRIES", (2, 16))
        found = chooser.probabilities(scores)
    differs = (found > 0) != (expected > 0)
    if differs.any():  # with equals, a sum may be the very limit, and fall on either side by its rounding
        assert differs.sum() == 1 and "top_p" in given and (scores == scores[differs.argmax()]).sum() > 1
    else:
        np.testing.assert_allclose(found, expected, atol=1e-6)


@given(scores=rows, count=st.integers(1, 1000))
def test_the_likeliest_are_those_of_a_sort(scores: np.ndarray, count: int) -> None:
    expected = np.argsort(-scores, kind="stable")[:count]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "FEW", 8)
        assert sampling.likeliest(scores, count).tolist() == expected.tolist()


def test_the_likeliest_of_many_are_those_of_a_sort() -> None:
    scores = np.random.default_rng(0).standard_normal(50_000).astype(np.float32)
    scores[::7] = np.round(scores[::7])
    for count in (1, 5, 50, 3000):
        expected = np.argsort(-scores, kind="stable")[:count]
        assert sampling.likeliest(scores, count).tolist() == expected.tolist()


@given(
    weights=st.lists(st.sampled_from([0.0, 0.0, 0.25, 1.0, 3.0]), min_size=1, max_size=60).filter(any),
    share=st.floats(0, 1.2),
)
def test_what_is_drawn_has_a_weight(weights: list[float], share: float) -> None:
    array = np.array(weights, np.float32)
    target = share * float(array.sum())
    expected = next(
        (place for place, total in enumerate(np.cumsum(array, dtype=np.float64)) if total > target),
        int(np.flatnonzero(array)[-1]),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "FEW", 4)
        patch.setattr(sampling, "_BLOCK", 5)
        assert sampling.first_beyond(array, target) == expected
    assert sampling.first_beyond(array, target) == expected


def test_tokens_come_as_often_as_they_are_likely() -> None:
    scores = np.log(np.array([0.5, 0.3, 0.15, 0.05, 1e-30], np.float32))
    chooser = Chooser(GenerationOptions(do_sample=True, seed=1))
    found = np.bincount([chooser.choose(scores) for _ in range(20_000)], minlength=5) / 20_000
    np.testing.assert_allclose(found, [0.5, 0.3, 0.15, 0.05, 0], atol=0.015)


def test_many_tokens_come_as_often_as_they_are_likely() -> None:
    scores = np.full(20_000, -np.inf, np.float32)
    scores[[3, 700, 19_999]] = np.log([0.2, 0.5, 0.3])
    chooser = Chooser(GenerationOptions(do_sample=True, seed=1))
    found = np.bincount([chooser.choose(scores) for _ in range(5_000)], minlength=20_000) / 5_000
    np.testing.assert_allclose(found[[3, 700, 19_999]], [0.2, 0.5, 0.3], atol=0.03)
    assert found.sum() == pytest.approx(found[[3, 700, 19_999]].sum())


@pytest.mark.parametrize(("mass", "left"), [(0.5, 2), (0.51, 3), (0.75, 3), (0.76, 4), (1e-9, 1)])
def test_top_p_keeps_at_least_its_mass(mass: float, left: int) -> None:
    chooser = Chooser(GenerationOptions(do_sample=True, top_p=mass))
    assert (chooser.probabilities(np.zeros(4, np.float32)) > 0).sum() == left


def test_seeds_reproduce_and_rows_differ() -> None:
    scores = np.random.default_rng(0).standard_normal((30, 5000)).astype(np.float32)

    def drawn(seed: int | None, stream: int = 0) -> list[int]:
        chooser = Chooser(GenerationOptions(do_sample=True, seed=seed), stream)
        return [chooser.choose(row) for row in scores]

    assert drawn(3) == drawn(3)
    assert len({tuple(drawn(*which)) for which in ((3, 0), (3, 1), (4, 0), (None, 0), (None, 0))}) == 5


def test_greedy_takes_the_first_of_the_best() -> None:
    assert Chooser(GenerationOptions()).choose(np.array([1, 5, 5, -np.inf], np.float32)) == 1


def test_a_low_temperature_does_not_overflow() -> None:
    scores = np.array([80.0, 81.0, -90.0], np.float32)
    chooser = Chooser(GenerationOptions(do_sample=True, temperature=1e-38))
    assert chooser.probabilities(scores).tolist() == [0, 1, 0]


def test_scores_are_not_written_to() -> None:
    scores = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    before = scores.copy()
    given = {"temperature": 0.5, "top_k": 50, "top_p": 0.9, "min_p": 0.01, "typical_p": 0.9}
    assert 0 <= Chooser(GenerationOptions().with_options(**given)).choose(scores) < 100
    np.testing.assert_array_equal(scores, before)


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_an_error(sampled: bool, value: float) -> None:
    scores = np.zeros(9, np.float32)
    scores[4] = value
    with pytest.raises(NumericError, match="score of the next token") as caught:
        Chooser(GenerationOptions(do_sample=sampled, top_k=2 if sampled else 0)).choose(scores)
    assert caught.value.hint


@pytest.mark.parametrize("sampled", [True, False])
def test_forbidding_every_token_is_an_error(sampled: bool) -> None:
    with pytest.raises(UsageError, match="every next token is forbidden"):
        Chooser(GenerationOptions(do_sample=sampled)).choose(np.full(9, -np.inf, np.float32))
