"""Comparison of ONNX outputs with the original's: made once at conversion, replayed at will without torch.

A reference case is one ``NAME.npz`` with the arrays ``in:<input>`` and ``out:<output>``, written by the converter's
worker from the original model. The comparison is elementwise: in each output a difference may be ``tolerance``
times the larger of 1 and that output's largest reference magnitude.
"""

from __future__ import annotations

import json
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from gpux.cancel import CancelToken
from gpux.errors import CorruptFileError, ProofError
from gpux.types import Proof, ProofCase, ProofStatus, StoredModel

Arrays = Mapping[str, NDArray[Any]]
#: Runs one graph: named input arrays to named output arrays.
Runner = Callable[[Arrays], Arrays]

#: What a difference may be, relative to max(1, largest reference magnitude), per precision of the graph.
TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 5e-2}
#: Cases are kept for replay, smallest first, up to this many bytes.
KEPT_BYTES = 4_000_000
FOLDER = "proof"


@dataclass(frozen=True)
class ReferenceCase:
    """Inputs, and what the original answered."""

    name: str
    inputs: Arrays
    outputs: Arrays


def read_case(file: Path) -> ReferenceCase:
    """Read one reference case.

    Raises:
        CorruptFileError: the file is not one.
    """
    try:
        with file.open("rb") as raw, NpzFile(raw, allow_pickle=False) as arrays:
            inputs = {key[3:]: arrays[key] for key in arrays.files if key.startswith("in:")}
            outputs = {key[4:]: arrays[key] for key in arrays.files if key.startswith("out:")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as exc:
        raise CorruptFileError(f"{file} is not a reference case: {exc}", hint="Run `gpux verify`.") from exc
    return ReferenceCase(file.stem, inputs, outputs)


def compare(case: ReferenceCase, run: Runner, tolerance: float, *, kept: bool = False) -> ProofCase:
    """Run the case's inputs and measure how far the answers are from the reference.

    An output that is missing, of another shape, or not finite where the reference is, counts as infinitely far.
    """
    if not case.outputs:
        raise ProofError(f"the reference case {case.name} has no outputs, so it proves nothing")
    answers = run(case.inputs)
    measured = [_measure(answers.get(name), expected, tolerance) for name, expected in case.outputs.items()]
    worst, allowed = max(measured, key=lambda pair: pair[0] / pair[1])
    shapes = {name: tuple(array.shape) for name, array in case.inputs.items()}
    return ProofCase(case.name, shapes, worst, allowed, kept)


def _measure(actual: NDArray[Any] | None, expected: NDArray[Any], tolerance: float) -> tuple[float, float]:
    """Largest difference of one output, and what it may be."""
    scale = max(1.0, float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0)))
    return _distance(actual, expected), tolerance * scale


def _distance(actual: NDArray[Any] | None, expected: NDArray[Any]) -> float:
    if actual is None or actual.shape != expected.shape:
        return float("inf")
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
    onnxruntime: str = "",
    execution_provider: str = "",
    cancel: CancelToken | None = None,
) -> Proof:
    """Compare every case in the folder ``reference``; the result is ``proven`` or ``inexact``.

    ``onnxruntime`` (a version) and ``execution_provider`` say what ``run`` runs on, for the record.

    Raises:
        ProofError: there is nothing to compare.
        CancelledError: ``cancel`` was set.
    """
    files = sorted(reference.glob("*.npz"), key=lambda file: file.stat().st_size)
    if not files:
        raise ProofError("the converter wrote no reference outputs, so nothing can be proven")
    kept = _affordable(files)
    cases = []
    for file in files:
        (cancel or CancelToken()).check()
        cases.append(compare(read_case(file), run, TOLERANCE[precision], kept=file in kept))
    status: ProofStatus = "proven" if all(case.passed for case in cases) else "inexact"
    return Proof(status, tuple(cases), _versions(reference), onnxruntime, execution_provider)


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
    tolerance = TOLERANCE[model.manifest.precision]
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
