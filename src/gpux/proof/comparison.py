"""Comparison of a variant's outputs with the original's, element by element, when the variant is converted.

In each output, an element may differ by ``tolerance`` times the larger of 1 and that output's largest reference
magnitude.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.convert.answer_case import ARRAYS
from gpux.convert.reference_case import Arrays, ReferenceCase, read_case
from gpux.errors import ProofError
from gpux.model.json_file import read_json
from gpux.model.precisions import find_precision
from gpux.model.variant import Proof, ProofCase, ProofStatus, Threshold
from gpux.proof.cases import FOLDER, SMALL_FOLDER, Runner, inputs_of
from gpux.system.cancel import CancelToken

#: Cases are kept for replay, smallest first, up to this many bytes.
KEPT_BYTES = 4_000_000


def compare(
    case: ReferenceCase, run: Runner, tolerance: float, *, kept: bool = False, small_model: bool = False
) -> ProofCase:
    """Run the case's calls and measure the largest difference from the reference.

    An output that is missing, of another shape, or not finite where the reference is, counts as infinitely far.

    Raises:
        ProofError: the case has no outputs to compare.
    """
    if not any(call.outputs for call in case.calls):
        raise ProofError(f"the reference case {case.name} has no outputs, so it proves nothing")
    worst, allowed = max(_measurements(case, run, tolerance), key=lambda pair: pair[0] / pair[1])
    shapes = {name: tuple(array.shape) for name, array in case.calls[0].inputs.items()}
    return ProofCase(case.name, shapes, worst, allowed, kept, len(case.calls), case.length, small_model)


def _measurements(case: ReferenceCase, run: Runner, tolerance: float) -> list[tuple[float, float]]:
    """Difference and allowance of each output of each call; a call without a carried input is infinitely far."""
    earlier: list[Arrays] = []
    found: list[tuple[float, float]] = []
    for call in case.calls:
        inputs = inputs_of(call, earlier)
        if inputs is None:
            return [*found, (float("inf"), tolerance)]
        outputs = run(call.graph, inputs)
        earlier.append(outputs)
        for name, expected in call.outputs.items():
            found.append(_measure(outputs.get(name), expected, call.masks.get(name), tolerance))
    return found


def _measure(
    actual: NDArray[Any] | None, expected: NDArray[Any], mask: NDArray[Any] | None, tolerance: float
) -> tuple[float, float]:
    """Largest difference of one output, and the difference allowed."""
    if actual is None or actual.shape != expected.shape:
        return float("inf"), tolerance
    if mask is not None:
        actual, expected = actual[mask], expected[mask]
    scale = max(1.0, float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0)))
    return distance(actual, expected), tolerance * scale


def distance(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """Largest difference of two arrays of one shape; infinity where one has a number and the other has none."""
    finite = np.isfinite(expected)
    if not np.array_equal(expected[~finite], actual[~finite], equal_nan=True) or not np.isfinite(actual[finite]).all():
        return float("inf")
    difference = np.abs(actual[finite].astype(np.float64) - expected[finite].astype(np.float64))
    return float(difference.max(initial=0.0))


def prove(
    reference: Path,
    run: Runner,
    precision: str,
    *,
    thresholds: Sequence[Threshold] = (),
    small: Runner | None = None,
    onnxruntime: str = "",
    execution_provider: str = "",
    cancel: CancelToken | None = None,
) -> Proof:
    """Compare every case in the folder ``reference``; the result is ``proven`` or ``inexact``.

    Where only cases beyond a threshold fail, those cases are dropped and the threshold becomes the proof's ``limit``.

    Args:
        reference: folder of cases.
        run: runs the variant's graphs.
        precision: of the graphs.
        thresholds: lengths that the cases were written around.
        small: runs the graphs of the small model whose cases are in ``reference/small``.
        onnxruntime: version of onnxruntime behind ``run``, for the record.
        execution_provider: execution provider behind ``run``, for the record.
        cancel: cancels the comparison.

    Raises:
        ProofError: there are no cases, a case has no outputs, or the precision is a quantized one.
        CancelledError: ``cancel`` was set.
    """
    files = _case_files(reference)
    if not files:
        raise ProofError("the converter wrote no reference outputs, so nothing can be proven")
    tolerance = find_precision(precision).tolerance
    if tolerance is None:
        raise ProofError(f"outputs in {precision} differ from the original's by design, so nothing can be proven")
    kept, token = _files_to_keep(files), cancel or CancelToken()
    cases = [_compare_file(file, run, tolerance, token, kept=file in kept) for file in files]
    if small is not None:
        small_files = _case_files(reference / SMALL_FOLDER)
        cases += [_compare_file(file, small, tolerance, token, small_model=True) for file in small_files]
    limit = _limit(cases, thresholds)
    if limit is not None:
        cases = [case for case in cases if case.length is None or case.length <= limit.length]
    status: ProofStatus = "proven" if all(case.passed for case in cases) else "inexact"
    return Proof(status, tuple(cases), _versions(reference), onnxruntime, execution_provider, limit)


def _case_files(folder: Path) -> list[Path]:
    """The files of a folder's cases, smallest first."""
    files = (file for file in folder.glob("*.npz") if file.name != ARRAYS)
    return sorted(files, key=lambda file: file.stat().st_size)


def _compare_file(
    file: Path, run: Runner, tolerance: float, cancel: CancelToken, *, kept: bool = False, small_model: bool = False
) -> ProofCase:
    cancel.check()
    return compare(read_case(file), run, tolerance, kept=kept, small_model=small_model)


def _limit(cases: Iterable[ProofCase], thresholds: Iterable[Threshold]) -> Threshold | None:
    """The largest threshold below the length of every failing case; None where no case fails, or there is no such."""
    failing = [case.length or 0 for case in cases if not case.passed]
    below = [threshold for threshold in thresholds if threshold.length < min(failing, default=0)]
    return max(below, key=lambda threshold: threshold.length, default=None)


def _files_to_keep(files: Iterable[Path]) -> set[Path]:
    """The first files up to ``KEPT_BYTES`` in all, at least one; ``files`` are sorted, smallest first."""
    kept: set[Path] = set()
    total = 0
    for file in files:
        total += file.stat().st_size
        if kept and total > KEPT_BYTES:
            break
        kept.add(file)
    return kept


def _versions(reference: Path) -> dict[str, str]:
    return {key: str(value) for key, value in read_json(reference / "versions.json").items()}


def keep_cases(reference: Path, proof: Proof, variant: Path) -> None:
    """Copy the cases that the proof keeps into the variant's own ``proof/`` folder."""
    folder = variant / FOLDER
    folder.mkdir(exist_ok=True)
    for case in proof.cases:
        if case.kept:
            shutil.copyfile(reference / f"{case.name}.npz", folder / f"{case.name}.npz")
