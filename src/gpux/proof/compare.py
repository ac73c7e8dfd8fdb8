"""Comparison of ONNX outputs with the original's: made once at conversion, replayed at will without torch.

A reference case is one ``NAME.npz``, written by the converter's worker from the original model. It is a sequence of
calls of graphs; the array ``plan`` (UTF-8 bytes of a JSON object) has

* ``calls``: for each its ``graph``, and ``carry``: input -> [number of an earlier call, output of it], which is how a
  key-value cache or an encoder's answer goes on;
* ``length``: the tokens that the case reaches, where a threshold of the model depends on them.

The arrays of call 0 are ``0:in:<input>``, ``0:out:<output>`` (what the original answered) and ``0:mask:<output>``
(booleans over the leading axes: which positions count; all without it). A file without a plan is one call of the graph
``model`` with the arrays ``in:<input>`` and ``out:<output>``.

The comparison is elementwise: in each output a difference may be ``tolerance`` times the larger of 1 and that output's
largest reference magnitude.
"""

from __future__ import annotations

import json
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from gpux.errors import CorruptFileError, ProofError
from gpux.model.precisions import find_precision
from gpux.model.variant import Proof, ProofCase, ProofStatus, StoredModel, Threshold
from gpux.system.cancel import CancelToken

Arrays = Mapping[str, NDArray[Any]]
#: Runs a graph, by its name: named input arrays to named output arrays.
Runner = Callable[[str, Arrays], Arrays]

#: Cases are kept for replay, smallest first, up to this many bytes.
KEPT_BYTES = 4_000_000
FOLDER = "proof"
MODEL = "model"


@dataclass(frozen=True)
class Call:
    """One run of one graph, and what the original answered."""

    graph: str
    inputs: Arrays
    outputs: Arrays  #: the reference; outputs that it has not are not compared
    carry: Mapping[str, tuple[int, str]] = field(default_factory=dict)  #: input -> (an earlier call, its output)
    masks: Arrays = field(default_factory=dict)  #: output -> booleans over its leading axes: what counts


@dataclass(frozen=True)
class ReferenceCase:
    """A sequence of calls."""

    name: str
    calls: tuple[Call, ...]
    length: int | None = None


def read_case(file: Path) -> ReferenceCase:
    """Read one reference case.

    Raises:
        CorruptFileError: the file is not one.
    """
    try:
        with file.open("rb") as raw, NpzFile(raw, allow_pickle=False) as arrays:
            return _parse(file.stem, {name: arrays[name] for name in arrays.files})
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as exc:
        raise CorruptFileError(f"{file} is not a reference case: {exc}", hint="Run `gpux verify`.") from exc


def _parse(name: str, arrays: Arrays) -> ReferenceCase:
    if "plan" not in arrays:
        return ReferenceCase(name, (Call(MODEL, _named(arrays, "in:"), _named(arrays, "out:")),))
    plan = json.loads(arrays["plan"].tobytes())
    calls = tuple(
        Call(
            call["graph"],
            _named(arrays, f"{number}:in:"),
            _named(arrays, f"{number}:out:"),
            {target: (int(source[0]), str(source[1])) for target, source in call.get("carry", {}).items()},
            _named(arrays, f"{number}:mask:"),
        )
        for number, call in enumerate(plan["calls"])
    )
    return ReferenceCase(name, calls, plan.get("length"))


def _named(arrays: Arrays, prefix: str) -> dict[str, NDArray[Any]]:
    return {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}


def compare(case: ReferenceCase, run: Runner, tolerance: float, *, kept: bool = False, twin: bool = False) -> ProofCase:
    """Make the case's calls and measure how far the answers are from the reference.

    An output that is missing, of another shape, or not finite where the reference is, counts as infinitely far.

    Raises:
        ProofError: the case has no outputs to compare.
    """
    if not any(call.outputs for call in case.calls):
        raise ProofError(f"the reference case {case.name} has no outputs, so it proves nothing")
    worst, allowed = max(_measurements(case, run, tolerance), key=lambda pair: pair[0] / pair[1])
    shapes = {name: tuple(array.shape) for name, array in case.calls[0].inputs.items()}
    return ProofCase(case.name, shapes, worst, allowed, kept, len(case.calls), case.length, twin)


def _measurements(case: ReferenceCase, run: Runner, tolerance: float) -> list[tuple[float, float]]:
    """Difference and allowance of each output of each call; a call that cannot be fed is infinitely far."""
    answers: list[Arrays] = []
    found: list[tuple[float, float]] = []
    for call in case.calls:
        carried = {target: answers[number].get(name) for target, (number, name) in call.carry.items()}
        if any(value is None for value in carried.values()):
            return [*found, (float("inf"), tolerance)]
        answer = run(
            call.graph, {**call.inputs, **{name: value for name, value in carried.items() if value is not None}}
        )
        answers.append(answer)
        for name, expected in call.outputs.items():
            found.append(_measure(answer.get(name), expected, call.masks.get(name), tolerance))
    return found


def _measure(
    actual: NDArray[Any] | None, expected: NDArray[Any], mask: NDArray[Any] | None, tolerance: float
) -> tuple[float, float]:
    """Largest difference of one output, and what it may be."""
    if actual is None or actual.shape != expected.shape:
        return float("inf"), tolerance
    if mask is not None:
        actual, expected = actual[mask], expected[mask]
    scale = max(1.0, float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0)))
    return _distance(actual, expected), tolerance * scale


def _distance(actual: NDArray[Any], expected: NDArray[Any]) -> float:
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
    twin: Runner | None = None,
    onnxruntime: str = "",
    execution_provider: str = "",
    cancel: CancelToken | None = None,
) -> Proof:
    """Compare every case in the folder ``reference``; the result is ``proven`` or ``inexact``.

    Where only cases beyond a threshold fail, the rest is proven and the threshold becomes the proof's ``limit``.

    Args:
        reference: folder of cases.
        run: runs the variant's graphs.
        precision: of the graphs.
        thresholds: lengths that the cases were made around.
        twin: runs the graphs of the small model whose cases are in ``reference/twin``.
        onnxruntime: the version that ``run`` runs on, for the record.
        execution_provider: the same.
        cancel: ends the comparison.

    Raises:
        ProofError: there is nothing to compare, or the precision is a quantized one.
        CancelledError: ``cancel`` was set.
    """
    files = _cases(reference)
    if not files:
        raise ProofError("the converter wrote no reference outputs, so nothing can be proven")
    tolerance = find_precision(precision).tolerance
    if tolerance is None:
        raise ProofError(f"outputs in {precision} differ from the original's by design, so nothing can be proven")
    kept, token = _affordable(files), cancel or CancelToken()
    cases = [_compared(file, run, tolerance, token, kept=file in kept) for file in files]
    if twin is not None:
        small = _cases(reference / "twin")
        cases += [_compared(file, twin, tolerance, token, twin=True) for file in small]
    limit = _limit(cases, thresholds)
    if limit is not None:
        cases = [case for case in cases if case.length is None or case.length <= limit.length]
    status: ProofStatus = "proven" if all(case.passed for case in cases) else "inexact"
    return Proof(status, tuple(cases), _versions(reference), onnxruntime, execution_provider, limit)


def _cases(folder: Path) -> list[Path]:
    """The files of a folder's cases, smallest first."""
    return sorted(folder.glob("*.npz"), key=lambda file: file.stat().st_size)


def _compared(
    file: Path, run: Runner, tolerance: float, cancel: CancelToken, *, kept: bool = False, twin: bool = False
) -> ProofCase:
    cancel.check()
    return compare(read_case(file), run, tolerance, kept=kept, twin=twin)


def _limit(cases: Iterable[ProofCase], thresholds: Iterable[Threshold]) -> Threshold | None:
    """The furthest threshold that every failing case is beyond; None where nothing fails, or something always does."""
    failing = [case.length or 0 for case in cases if not case.passed]
    before = [threshold for threshold in thresholds if threshold.length < min(failing, default=0)]
    return max(before, key=lambda threshold: threshold.length, default=None)


def _affordable(files: Iterable[Path]) -> set[Path]:
    """The smallest files up to ``KEPT_BYTES`` in all, at least one; ``files`` come smallest first."""
    kept: set[Path] = set()
    total = 0
    for file in files:
        total += file.stat().st_size
        if kept and total > KEPT_BYTES:
            break
        kept.add(file)
    return kept


def _versions(reference: Path) -> dict[str, str]:
    try:
        found = json.loads((reference / "versions.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {str(key): str(value) for key, value in found.items()}


def keep(reference: Path, proof: Proof, variant: Path) -> None:
    """Copy the kept cases into the variant's own ``proof/`` folder."""
    folder = variant / FOLDER
    folder.mkdir(exist_ok=True)
    for case in proof.cases:
        if case.kept:
            shutil.copyfile(reference / f"{case.name}.npz", folder / f"{case.name}.npz")


def replay(model: StoredModel, run: Runner) -> tuple[ProofCase, ...]:
    """Run the kept cases of a stored variant again; empty for one without (``proof: shipped``).

    Raises:
        ProofError: a case is beyond its tolerance.
    """
    if not any(case.kept for case in model.manifest.proof.cases):
        return ()
    tolerance = find_precision(model.manifest.precision).replay_tolerance
    cases = tuple(
        compare(read_case(model.path / FOLDER / f"{case.name}.npz"), run, tolerance, kept=True)
        for case in model.manifest.proof.cases
        if case.kept
    )
    failed = [case for case in cases if not case.passed]
    if failed and model.manifest.proof.status == "proven":
        worst = max(failed, key=lambda case: case.max_abs_diff)
        raise ProofError(
            f"{model.id} answers otherwise than when it was proven: case {worst.name} differs by "
            f"{worst.max_abs_diff:.2e}, allowed {worst.tolerance:.2e}",
            hint="Try another device, or pull the model again with `gpux pull --force`.",
        )
    return cases
