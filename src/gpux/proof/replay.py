"""Replay of a stored variant's proof: its kept cases on this machine's onnxruntime, without torch.

A proof holds for one pair of onnxruntime version and execution provider. A pipeline replays it once on any other pair
and records success in ``<variant folder>.replays.json`` beside the variant, which itself is never changed. Where that
file cannot be written, the next pipeline replays the proof again. Answers depend on the pair through the graphs only,
so a pipeline does not replay them; ``gpux verify --proof`` does.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from gpux.errors import CorruptFileError, ProofError
from gpux.model.json_file import load_json
from gpux.model.precisions import find_precision
from gpux.model.variant import Proof, ProofCase, StoredModel
from gpux.proof.cases import Runner, kept_cases
from gpux.proof.comparison import compare
from gpux.runtime.graphs import Graphs
from gpux.runtime.onnx_runtime import runtime_version
from gpux.system.files import write_atomic


def replay(model: StoredModel, run: Runner) -> tuple[ProofCase, ...]:
    """Run the kept cases of a stored variant again; empty for one without (``proof: shipped``).

    Raises:
        ProofError: the graphs are proven, and a case is beyond its tolerance.
        CorruptFileError: a case cannot be read.
    """
    kept = kept_cases(model)
    if not kept:
        return ()
    tolerance = find_precision(model.manifest.precision).replay_tolerance
    cases = tuple(compare(case, run, tolerance, kept=True) for case in kept)
    failed = [case for case in cases if not case.passed]
    if failed and _graphs_are_proven(model.manifest.proof):
        worst = max(failed, key=lambda case: case.max_abs_diff)
        raise ProofError(
            f"{model.id} gives other outputs here than when it was proven: case {worst.name} differs by "
            f"{worst.max_abs_diff:.2e}, allowed {worst.tolerance:.2e}",
            hint="Try another device, or pull the model again with `gpux pull --force`.",
        )
    return cases


def _graphs_are_proven(proof: Proof) -> bool:
    """Whether a difference is new: not of a variant whose graphs differed when it was stored."""
    only_answers = proof.answers is not None and proof.answers.status == "failed"
    return proof.status == "proven" or (only_answers and all(case.passed for case in proof.cases))


def replay_once(model: StoredModel, graphs: Graphs) -> bool:
    """Replay the kept cases if they were not yet run on this onnxruntime and execution provider.

    Returns:
        Whether they were replayed now.

    Raises:
        ProofError: the outputs are beyond tolerance here.
        CorruptFileError: a case cannot be read.
    """
    proven = model.manifest.proof
    pair = (runtime_version(), graphs.session(graphs.names[0]).execution_provider)
    if pair == (proven.onnxruntime, proven.execution_provider) or not any(case.kept for case in proven.cases):
        return False
    file = replays_file(model)
    passed = _read(file)
    if list(pair) in passed:
        return False
    replay(model, graphs.run)
    with contextlib.suppress(OSError):
        # Of two processes the later one wins, which costs a replay at most.
        write_atomic(file, json.dumps([*passed, list(pair)]))
    return True


def replays_file(model: StoredModel) -> Path:
    """The file that records the pairs on which the proof was replayed with success."""
    return model.path.with_name(f"{model.path.name}.replays.json")


def _read(file: Path) -> list[Any]:
    try:
        found = load_json(file)
    except (OSError, CorruptFileError):
        return []
    return found if isinstance(found, list) else []
