"""A variant's proof holds for one pair of onnxruntime version and execution provider; another is tried once.

What was tried with success is remembered in ``<variant folder>.replays.json`` beside the variant, which itself is
never changed. Where that cannot be written, the proof is simply replayed again next time.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from gpux.model.variant import StoredModel
from gpux.proof import compare as proof
from gpux.runtime.graphs import Graphs
from gpux.runtime.onnx_runtime import runtime_version


def replay_once(model: StoredModel, graphs: Graphs) -> bool:
    """Replay the kept proof cases if this onnxruntime and execution provider are new to the variant.

    Returns:
        Whether it was replayed now.

    Raises:
        ProofError: the answers are beyond tolerance here.
    """
    proven = model.manifest.proof
    pair = (runtime_version(), graphs.session(graphs.names[0]).execution_provider)
    if pair == (proven.onnxruntime, proven.execution_provider) or not any(case.kept for case in proven.cases):
        return False
    file = replays_file(model)
    known = _read(file)
    if list(pair) in known:
        return False
    proof.replay(model, graphs.run)
    with contextlib.suppress(OSError):
        _write(file, [*known, list(pair)])
    return True


def replays_file(model: StoredModel) -> Path:
    """Where the pairs that passed are remembered."""
    return model.path.with_name(f"{model.path.name}.replays.json")


def _read(file: Path) -> list[Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) else []


def _write(file: Path, pairs: list[Any]) -> None:
    """Whole or not at all; of two processes the later one wins, which costs a replay at most."""
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f"{file.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(pairs, stream)
        Path(temporary).replace(file)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
