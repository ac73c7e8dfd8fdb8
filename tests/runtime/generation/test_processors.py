from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpux.errors import UsageError
from gpux.runtime.generation.choose.processors import forbid_words, penalize_counts, penalize_repetition, processors
from gpux.runtime.generation.options import GenerationOptions
from tests.runtime.generation.golden import ARRAYS, GOLDEN, name, options


def changed(case_options: GenerationOptions, scores: np.ndarray, ids: list[int], prompt: int) -> np.ndarray:
    found = scores.copy()
    for process in processors(case_options, read=ids[:prompt]):
        process(found, np.array(ids, np.int64), prompt)
    return found


@pytest.mark.parametrize("case", GOLDEN["changed"], ids=name)
def test_scores_change_as_in_transformers(case: dict[str, Any]) -> None:
    found = changed(options(case), ARRAYS[f"scores/{case['scores']}"], case["ids"], case["prompt"])
    np.testing.assert_allclose(found, ARRAYS[case["expected"]], rtol=1e-6, atol=1e-6)


def test_the_golden_changes_are_changes() -> None:
    same = [
        case
        for case in GOLDEN["changed"]
        if np.array_equal(ARRAYS[case["expected"]], ARRAYS[f"scores/{case['scores']}"])
    ]
    assert len(GOLDEN["changed"]) - len(same) >= 30


def test_default_options_need_no_processor() -> None:
    assert processors(GenerationOptions(do_sample=True, temperature=0.5, min_new_tokens=3)) == []


def test_counted_penalties_are_those_of_the_api() -> None:
    scores = np.zeros(5, np.float32)
    found = changed(GenerationOptions(presence_penalty=0.5, frequency_penalty=0.25), scores, [4, 4, 1, 2, 1, 1], 2)
    np.testing.assert_allclose(found, [0, -0.5 - 0.75, -0.5 - 0.25, 0, 0])


def test_negative_penalty_makes_tokens_more_likely() -> None:
    scores = np.zeros(3, np.float32)
    penalize_counts(scores, np.array([1]), -1.0, 0.0)
    assert scores.tolist() == [0, 1, 0]


def test_nothing_generated_yet_is_no_penalty() -> None:
    scores = np.ones(3, np.float32)
    penalize_counts(scores, np.array([], np.int64), 1.0, 1.0)
    assert scores.tolist() == [1, 1, 1]


def test_a_token_that_came_often_is_penalized_once() -> None:
    scores = np.array([2, -2, 2], np.float32)
    penalize_repetition(scores, np.array([0, 0, 0, 1, 1]), 2.0)
    assert scores.tolist() == [1, -4, 2]


def test_ids_beyond_the_scores_are_ignored() -> None:
    found = changed(
        GenerationOptions(repetition_penalty=2.0, suppress_tokens=(99,), no_repeat_ngram_size=1, eos_token_ids=(77,)),
        np.ones(4, np.float32),
        [50, 2],
        1,
    )
    assert found.tolist() == [1, 1, -np.inf, 1]


def test_biases_are_added_before_the_penalties() -> None:
    options = GenerationOptions().with_options(logit_bias={"1": -3.0, 2: 5}, repetition_penalty=2.0)
    assert changed(options, np.ones(4, np.float32), [1, 0], 1).tolist() == [0.5, -4.0, 6.0, 1.0]


def test_a_bias_of_a_token_beyond_the_scores_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"logit_bias is 9, and the model's vocabulary ends at 3"):
        changed(GenerationOptions().with_options(logit_bias={9: 1.0}), np.ones(4, np.float32), [1], 1)


def test_a_forced_token_beyond_the_scores_is_named() -> None:
    with pytest.raises(UsageError, match=r"forced_bos_token_id is 9, and the model's vocabulary ends at 3"):
        changed(GenerationOptions(forced_bos_token_id=9), np.ones(4, np.float32), [1], 1)


def test_bad_word_that_begins_with_the_first_token() -> None:
    scores = np.ones(4, np.float32)
    forbid_words(scores, np.array([1, 2]), [(1, 2, 3), (2, 0), (0, 1, 2, 1)])
    assert scores.tolist() == [-np.inf, 1, 1, -np.inf]


def test_the_last_token_is_forced_where_the_context_ends() -> None:
    given = GenerationOptions(forced_eos_token_id=(3,), max_new_tokens=100)
    scores = np.ones(4, np.float32)
    for process in processors(given, most=2):
        process(scores, np.array([1, 2]), 1)
    assert scores.tolist() == [-np.inf, -np.inf, -np.inf, 0]
