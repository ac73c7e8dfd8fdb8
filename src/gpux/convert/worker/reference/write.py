"""What the original answers: the cases that the parent compares the graphs with, and how the graphs were driven."""

from __future__ import annotations

import copy
import gc
import json
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gpux.convert.worker.common.environment import versions
from gpux.convert.worker.common.graphs import Exported, read_signature
from gpux.convert.worker.reference.composed import write_composed
from gpux.convert.worker.reference.decoders import is_decoder, write_decoder
from gpux.convert.worker.reference.lengths import find_thresholds
from gpux.convert.worker.reference.seq2seq import is_seq2seq, write_seq2seq
from gpux.convert.worker.reference.single import write_single
from gpux.convert.worker.reference.small_model import full_length
from gpux.convert.worker.reference.subject import Findings, Subject

MODEL = "model"
TWIN = "twin"

Load = Callable[[], Any]
Export = Callable[[Any, Path], Exported]


def write_reference(
    load: Load, exported: Exported, folder: Path, seed: int, export: Export | None = None
) -> dict[str, Any]:
    """Ask the original, and write one ``NAME.npz`` per case, ``versions.json`` and, where needed, ``twin/``.

    Args:
        load: makes the unpatched original, in float32 and evaluation mode; called once, and nobody else holds on to it.
        exported: the graphs; sizes of their inputs that do not work turn out here and are declared fixed in the files.
        folder: takes the cases, see :mod:`cases`.
        seed: of all inputs.
        export: writes a small model's graphs into a folder as the original's were written; without it, a length that
            costs too much in full size becomes a limit.

    Returns:
        ``call_spec``, ``thresholds`` and ``twin``, as the ``result`` event has them.

    Raises:
        Refused: the original answers at random, or a graph has inputs or outputs that cannot be compared.
    """
    folder.mkdir(parents=True, exist_ok=True)
    subject = _subject(load, exported, folder, seed)
    subject.wants_twin = export is not None
    findings = _write(subject)
    twin: dict[str, str] = {}
    if findings.unaffordable and subject.small is not None and export is not None:
        twin = _write_twin(subject.small, export, folder / TWIN, seed, findings)
    if not twin:
        _cap(findings)
    (folder / "versions.json").write_text(json.dumps(versions()), encoding="utf-8")
    thresholds = [{"name": one.name, "length": one.length, "axes": findings.counters} for one in findings.thresholds]
    return {"call_spec": findings.call_spec(), "thresholds": thresholds, "twin": twin}


def _subject(load: Load, exported: Exported, folder: Path, seed: int) -> Subject:
    signatures = {name: read_signature(file) for name, file in exported.graphs.items()}
    return Subject(load(), exported, folder, signatures, np.random.default_rng(seed), seed=seed)


def _write(subject: Subject) -> Findings:
    """The cases of whatever kind of model it is."""
    if is_seq2seq(set(subject.signatures)):
        return write_seq2seq(subject)
    if set(subject.signatures) != {MODEL}:
        return write_composed(subject)
    if is_decoder(subject.signatures[MODEL]):
        return write_decoder(subject)
    return write_single(subject)


def _write_twin(small: Any, export: Export, folder: Path, seed: int, findings: Findings) -> dict[str, str]:
    """Export the small model and write its cases; empty where that does not work."""
    folder.mkdir()
    try:
        exported = export(copy.deepcopy(small), folder)
        subject = _subject(lambda: small, exported, folder, seed)
        subject.reached = full_length(findings.thresholds, find_thresholds(small.config))
        _write(subject)
    except Exception:  # noqa: BLE001 - an exporter fails in any way; without a twin the length becomes a limit
        traceback.print_exc()
        shutil.rmtree(folder)
        return {}
    finally:
        gc.collect()
    return {name: str(file.relative_to(folder)) for name, file in exported.graphs.items()}


def _cap(findings: Findings) -> None:
    """What could be shown neither in full size nor small is a limit."""
    for one in findings.unaffordable:
        findings.thresholds.remove(one)
        findings.shorten(one.length)
