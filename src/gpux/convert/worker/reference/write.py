"""Writes the reference cases of a model, and determines how its graphs are called."""

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
SMALL = "small"

Load = Callable[[], Any]
Export = Callable[[Any, Path], Exported]
Last = Callable[[Any, int | None], None]


def write_reference(
    load: Load, exported: Exported, folder: Path, seed: int, export: Export | None = None, last: Last | None = None
) -> dict[str, Any]:
    """Run the original, and write one ``NAME.npz`` for each case, ``versions.json`` and, if needed, ``small/``.

    Args:
        load: returns the unpatched original, in float32 and evaluation mode, to which nothing else refers; called once.
        exported: the graphs; axes of inputs that do not work at other sizes are declared fixed in the files.
        folder: receives the cases.
        seed: of all inputs.
        export: exports a small model into a folder as the original was exported; without it, a threshold that costs
            too much in full size becomes a limit.
        last: called with the original and the tokens that the graphs read at most (None: any number) after the cases
            were computed, before the original is released; it may change the model.

    Returns:
        ``call_spec``, ``thresholds`` and ``small_graphs``, as the ``result`` event has them.

    Raises:
        Refused: the original's outputs are random, or a graph has inputs or outputs that cannot be compared.
    """
    folder.mkdir(parents=True, exist_ok=True)
    subject = _subject(load, exported, folder, seed)
    subject.needs_small_model, subject.last = export is not None, last
    findings = _write(subject)
    small_graphs: dict[str, str] = {}
    if findings.unaffordable and subject.small is not None and export is not None:
        small_graphs = _write_small(subject.small, export, folder / SMALL, seed, findings)
    if not small_graphs:
        _cap(findings)
    (folder / "versions.json").write_text(json.dumps(versions()), encoding="utf-8")
    thresholds = [{"name": one.name, "length": one.length, "axes": findings.counters} for one in findings.thresholds]
    return {"call_spec": findings.call_spec(), "thresholds": thresholds, "small_graphs": small_graphs}


def _subject(load: Load, exported: Exported, folder: Path, seed: int) -> Subject:
    signatures = {name: read_signature(file) for name, file in exported.graphs.items()}
    return Subject(load(), exported, folder, signatures, np.random.default_rng(seed), seed=seed)


def _write(subject: Subject) -> Findings:
    """Write the cases of a model of any kind."""
    if is_seq2seq(set(subject.signatures)):
        return write_seq2seq(subject)
    if set(subject.signatures) != {MODEL}:
        return write_composed(subject)
    if is_decoder(subject.signatures[MODEL]):
        return write_decoder(subject)
    return write_single(subject)


def _write_small(small: Any, export: Export, folder: Path, seed: int, findings: Findings) -> dict[str, str]:
    """Export the small model and write its cases; empty if that fails."""
    folder.mkdir()
    try:
        exported = export(copy.deepcopy(small), folder)
        subject = _subject(lambda: small, exported, folder, seed)
        subject.reached = full_length(findings.thresholds, find_thresholds(small.config))
        _write(subject)
    except Exception:  # noqa: BLE001 - exporters raise anything; without a small model the threshold becomes a limit
        traceback.print_exc()
        shutil.rmtree(folder)
        return {}
    finally:
        gc.collect()
    return {name: str(file.relative_to(folder)) for name, file in exported.graphs.items()}


def _cap(findings: Findings) -> None:
    """Turn thresholds that were tested neither in full size nor on a small model into limits."""
    for one in findings.unaffordable:
        findings.thresholds.remove(one)
        findings.shorten(one.length)
