from __future__ import annotations

import math

import numpy as np
import pytest

from gpux.runtime.numeric import log_softmax, logsumexp, softmax

ROWS = np.array([[1.0, 2.0, 3.0], [1000.0, 1000.0, -np.inf]], np.float32)


def test_softmax_is_over_the_last_axis_and_does_not_overflow() -> None:
    exact = [math.exp(x) / sum(map(math.exp, (1, 2, 3))) for x in (1, 2, 3)]
    found = softmax(ROWS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [exact, [0.5, 0.5, 0.0]], rtol=1e-6)
    np.testing.assert_array_equal(softmax(ROWS[0]), found[0])


def test_log_softmax_is_its_logarithm() -> None:
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(log_softmax(ROWS), np.log(softmax(ROWS)), rtol=1e-6)


def test_logsumexp_turns_a_score_into_a_log_probability() -> None:
    assert ROWS[0, 1] - logsumexp(ROWS[0]) == pytest.approx(float(log_softmax(ROWS)[0, 1]))


def test_scores_are_not_written_to() -> None:
    before = ROWS.copy()
    softmax(ROWS), log_softmax(ROWS)
    np.testing.assert_array_equal(ROWS, before)
