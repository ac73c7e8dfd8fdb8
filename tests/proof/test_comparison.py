"""The comparison of a variant's outputs with the original's, and what follows from it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpux.convert.answer_case import ENCODE, AnswerCase, AnswerSet, write_answers
from gpux.convert.reference_case import MODEL, Arrays, Call, ReferenceCase
from gpux.errors import CancelledError, CorruptFileError, ProofError
from gpux.model.variant import ProofCase, Threshold
from gpux.proof.cases import FOLDER
from gpux.proof.comparison import KEPT_BYTES, compare, keep_cases, prove
from gpux.system.cancel import CancelToken
from tests.proof.runners import X, double, slightly_off, triple, write_one_call, write_plan


def case(expected: Any) -> ReferenceCase:
    return ReferenceCase("case", (Call(MODEL, {"x": X}, {"y": np.array(expected)}),))


def measured(expected: Any, actual: Any, tolerance: float = 1e-4) -> ProofCase:
    return compare(case(expected), lambda _, inputs: {"y": np.array(actual)}, tolerance)


def test_equal_outputs_pass() -> None:
    result = compare(ReferenceCase("short", (Call(MODEL, {"x": X}, double(MODEL, {"x": X})),)), double, 1e-4, kept=True)
    assert result == ProofCase("short", {"x": (2, 2)}, 0.0, pytest.approx(6e-4), True)  # type: ignore[arg-type]
    assert result.passed


INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("expected", "actual", "difference", "passed"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0, True),
        ([1.0, 2.0], [1.0, 2.00001], 1e-5, True),
        ([1.0, 2.0], [1.5, 2.0], 0.5, False),
        ([1.0, 2.0], [-1.0, -2.0], 4.0, False),
        ([[1.0, 2.0]], [1.0, 2.0], INF, False),
        ([1.0, 2.0], [[1.0], [2.0]], INF, False),
        ([1.0, 2.0], [1.0], INF, False),
        ([1.0, 2.0], [1.0, NAN], INF, False),
        ([1.0, 2.0], [1.0, INF], INF, False),
        ([1.0, NAN], [1.0, 2.0], INF, False),
        ([1.0, -INF], [1.0, -INF], 0.0, True),
        ([1.0, -INF], [1.0, INF], INF, False),
        ([1.0, -INF], [1.0, NAN], INF, False),
        ([3, 4], [3, 4], 0.0, True),
        ([3, 4], [3, 5], 1.0, False),
        ([True, False], [True, False], 0.0, True),
        ([True, False], [True, True], 1.0, False),
        (np.float16([1.0]), np.float32([1.0]), 0.0, True),
        (np.zeros((0, 3)), np.zeros((0, 3)), 0.0, True),
        (np.zeros((0, 3)), np.zeros((0, 4)), INF, False),
        (7.0, 7.0, 0.0, True),
    ],
)
def test_differences(expected: Any, actual: Any, difference: float, passed: bool) -> None:
    result = measured(expected, actual)
    assert result.max_abs_diff == pytest.approx(difference)
    assert result.passed is passed


@pytest.mark.parametrize(
    ("largest", "difference", "passed"),
    [(0.01, 0.9e-4, True), (0.01, 1.1e-4, False), (1000.0, 0.09, True), (1000.0, 0.11, False), (-1000.0, 0.09, True)],
)
def test_tolerance_scales_with_the_reference(largest: float, difference: float, passed: bool) -> None:
    result = measured([0.0, largest], [difference, largest])
    assert result.tolerance == pytest.approx(1e-4 * max(1, abs(largest)))
    assert result.passed is passed


def test_infinity_does_not_widen_the_tolerance() -> None:
    assert measured([1.0, -INF], [1.0, -INF]).tolerance == pytest.approx(1e-4)


def test_a_missing_output_fails_and_the_worst_output_counts() -> None:
    small, large = np.array([1.0]), np.array([1000.0])
    reference = ReferenceCase("case", (Call(MODEL, {}, {"small": small, "large": large}),))
    missing = compare(reference, lambda _, inputs: {"small": small}, 1e-4)
    assert (missing.max_abs_diff, missing.passed) == (INF, False)
    worst = compare(reference, lambda _, inputs: {"small": small + 1e-3, "large": large + 1e-2, "other": small}, 1e-4)
    assert worst.max_abs_diff == pytest.approx(1e-3)  # ten times its tolerance; the larger one is within its own
    assert not worst.passed


def test_a_case_without_outputs_proves_nothing(tmp_path: Path) -> None:
    np.savez(tmp_path / "empty.npz", **{"in:x": X})
    with pytest.raises((ProofError, CorruptFileError)):
        prove(tmp_path, double, "fp32")


@pytest.mark.parametrize(("run", "status"), [(double, "proven"), (slightly_off, "proven"), (triple, "inexact")])
def test_prove(tmp_path: Path, run: Any, status: str) -> None:
    write_one_call(tmp_path, "long", np.repeat(X, 9, axis=0))
    write_one_call(tmp_path, "short")
    (tmp_path / "versions.json").write_text(json.dumps({"torch": "2.13.0"}), encoding="utf-8")
    proof = prove(tmp_path, run, "fp32", onnxruntime="1.24", execution_provider="CPUExecutionProvider")
    assert proof.status == status
    assert [(each.name, each.shapes, each.kept) for each in proof.cases] == [
        ("short", {"x": (2, 2)}, True),
        ("long", {"x": (18, 2)}, True),
    ]
    assert (proof.reference, proof.onnxruntime) == ({"torch": "2.13.0"}, "1.24")
    assert proof.execution_provider == "CPUExecutionProvider"


def test_one_failing_case_makes_a_variant_inexact(tmp_path: Path) -> None:
    write_one_call(tmp_path, "short")
    write_one_call(tmp_path, "long", np.repeat(X, 9, axis=0))
    proof = prove(tmp_path, lambda graph, inputs: (double if len(inputs["x"]) == 2 else triple)(graph, inputs), "fp32")
    assert [each.passed for each in proof.cases] == [True, False]
    assert proof.status == "inexact"


def test_a_lower_precision_may_differ_more(tmp_path: Path) -> None:
    write_one_call(tmp_path, "short")

    def rough(graph: str, inputs: Arrays) -> Arrays:
        return {"y": inputs["x"] * 2 + 5e-3}

    assert {precision: prove(tmp_path, rough, precision).status for precision in ("fp32", "fp16", "bf16")} == {
        "fp32": "inexact",
        "fp16": "proven",
        "bf16": "proven",
    }


def test_arrays_of_answer_cases_are_not_reference_cases(tmp_path: Path) -> None:
    write_one_call(tmp_path, "short")
    answer = AnswerCase("encode/one", ENCODE, ["a"], np.ones((1, 2), np.float32))
    write_answers(AnswerSet((answer,)), tmp_path)

    assert [each.name for each in prove(tmp_path, double, "fp32").cases] == ["short"]


def test_without_cases_nothing_is_proven(tmp_path: Path) -> None:
    with pytest.raises(ProofError, match="nothing can be proven"):
        prove(tmp_path, double, "fp32")


def test_a_proof_can_be_cancelled(tmp_path: Path) -> None:
    write_one_call(tmp_path, "short")
    token = CancelToken()
    token.cancel()
    with pytest.raises(CancelledError):
        prove(tmp_path, double, "fp32", cancel=token)


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ([1, 2, 3], [True, True, True]),
        ([1000, KEPT_BYTES // 16, KEPT_BYTES // 16 + 1], [True, True, False]),
        ([1000, KEPT_BYTES // 16, KEPT_BYTES], [True, True, False]),
        ([KEPT_BYTES], [True]),  # at least one, or there is nothing to replay
    ],
)
def test_the_smallest_cases_are_kept(tmp_path: Path, rows: list[int], kept: list[bool]) -> None:
    for row in rows:
        write_one_call(tmp_path / "reference", f"rows{row}", np.ones((row, 1), dtype=np.float32))
    proof = prove(tmp_path / "reference", double, "fp32")
    assert [each.name for each in proof.cases] == [f"rows{row}" for row in rows]
    assert [each.kept for each in proof.cases] == kept
    (tmp_path / "variant").mkdir()
    keep_cases(tmp_path / "reference", proof, tmp_path / "variant")
    assert sorted(file.stem for file in (tmp_path / "variant" / FOLDER).iterdir()) == sorted(
        each.name for each in proof.cases if each.kept
    )


def counting(graph: str, inputs: Arrays) -> Arrays:
    """A "decoder": adds its input to the state of the earlier call."""
    state = inputs.get("past", np.zeros(1)) + inputs["x"].sum()
    return {"y": state if graph == "decoder" else -state, "state": state}


TWO_CALLS = {"calls": [{"graph": "encoder"}, {"graph": "decoder", "carry": {"past": [0, "state"]}}]}


def test_a_call_receives_the_outputs_of_an_earlier_one(tmp_path: Path) -> None:
    write_plan(tmp_path, "steps", TWO_CALLS, **{"0_in_x": X, "1_in_x": X, "1_out_y": np.array([5.0])})
    (found,) = prove(tmp_path, counting, "fp32").cases
    assert (found.calls, found.passed, found.max_abs_diff) == (2, True, 0.0)
    (forgetful,) = prove(tmp_path, lambda graph, inputs: counting(graph, {"x": inputs["x"]}), "fp32").cases
    assert not forgetful.passed


def test_a_call_without_its_carried_input_fails(tmp_path: Path) -> None:
    write_plan(tmp_path, "steps", TWO_CALLS, **{"0_in_x": X, "1_in_x": X, "1_out_y": np.array([5.0])})
    assert prove(tmp_path, lambda graph, inputs: {"y": np.array([5.0])}, "fp32").status == "inexact"


def test_masked_positions_are_not_compared(tmp_path: Path) -> None:
    expected = X * 2
    expected[1] = 99.0
    arrays = {"0_in_x": X, "0_out_y": expected, "0_mask_y": np.array([True, False])}
    write_plan(tmp_path, "padded", {"calls": [{"graph": MODEL}]}, **arrays)
    assert prove(tmp_path, double, "fp32").status == "proven"


def by_length(lengths: dict[str, int], folder: Path) -> None:
    for name, length in lengths.items():
        x = np.ones((length, 1), np.float32)
        write_plan(folder, name, {"calls": [{"graph": MODEL}], "length": length}, **{"0_in_x": x, "0_out_y": x * 2})


WINDOW, ROPE = Threshold("sliding_window", 8, {MODEL: {"x": 0}}), Threshold("rope_scaling", 32, {MODEL: {"x": 0}})


@pytest.mark.parametrize(
    ("right_up_to", "status", "limit"),
    [(100, "proven", None), (40, "proven", ROPE), (20, "proven", WINDOW), (5, "inexact", None)],
)
def test_a_variant_that_fails_above_a_threshold_is_proven_up_to_it(
    tmp_path: Path, right_up_to: int, status: str, limit: Threshold | None
) -> None:
    by_length({"short": 6, "beyond-window": 24, "beyond-rope": 60}, tmp_path)

    def run(graph: str, inputs: Arrays) -> Arrays:
        return (double if len(inputs["x"]) <= right_up_to else triple)(graph, inputs)

    proof = prove(tmp_path, run, "fp32", thresholds=[WINDOW, ROPE])
    assert (proof.status, proof.limit) == (status, limit)
    assert limit is None or max(case.length or 0 for case in proof.cases) <= limit.length


def test_cases_of_a_small_model_show_a_threshold(tmp_path: Path) -> None:
    by_length({"short": 6}, tmp_path)
    by_length({"small-short": 20, "small-long": 40}, tmp_path / "small")
    proof = prove(tmp_path, double, "fp32", thresholds=[ROPE], small=lambda graph, inputs: triple(graph, inputs))
    assert proof.status == "inexact"  # its short case fails: it shows nothing about the threshold

    def small(graph: str, inputs: Arrays) -> Arrays:
        return (double if len(inputs["x"]) <= 32 else triple)(graph, inputs)

    proof = prove(tmp_path, double, "fp32", thresholds=[ROPE], small=small)
    assert (proof.status, proof.limit) == ("proven", ROPE)
    assert [(case.name, case.small_model) for case in proof.cases] == [("short", False), ("small-short", True)]
