"""One entry of the coverage matrix in its own process: plan, convert, prove, store, run; prints the row as JSON.

    python -m scripts.coverage_pull REQUEST

REQUEST is JSON: ``folder``, ``task``, ``home``, and optionally ``converter`` and ``precisions`` besides fp32.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpux.errors import ConversionError, GpuxError, InputError, UnsupportedError, WorkerCrashedError
from gpux.model.variant import AnswerProof, StoredModel
from gpux.proof.replay import replay
from gpux.pull.api import explain_model, pull_model
from gpux.runtime.graphs import Graphs
from gpux.system.settings import Settings


def row(
    folder: Path, task: str, home: Path, converter: str | None = None, precisions: Sequence[str] = ()
) -> dict[str, Any]:
    """The row of one entry. ``status``: ``proven``, ``refused`` (a typed error), ``failed`` (anything else)."""
    settings = Settings.from_env(home=home, offline=True)
    options: dict[str, Any] = {"task": task, "converter": converter, "force": True}
    began = time.perf_counter()
    found: dict[str, Any] = {"status": "failed", "early": False}
    try:
        model = pull_model(folder, settings=settings, **options)
        found |= _stored(model) | {"seconds": time.perf_counter() - began}
    except GpuxError as exc:
        found |= _refusal(exc) | {"early": _early(folder, settings, options)}
    except Exception as exc:  # noqa: BLE001 - the exception is reported in the row
        found |= {"error": type(exc).__name__, "message": f"{exc}\n{traceback.format_exc(limit=-2)}"[:600]}
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    found["seconds"] = round(found.get("seconds") or time.perf_counter() - began, 2)
    if found["status"] == "proven":
        found["precisions"] = {name: _reduced(folder, settings, task, name) for name in precisions}
    return {**found, "peak_rss": peak}


def _reduced(folder: Path, settings: Settings, task: str, precision: str) -> dict[str, Any]:
    """The loss of a smaller precision of the stored variant, or why it was refused."""
    try:
        model = pull_model(folder, settings=settings, task=task, precision=precision, convert=True)
        return {"status": model.manifest.proof.status, "loss": model.manifest.proof.loss, "size": model.size}
    except GpuxError as exc:
        return {"status": "refused", "error": type(exc).__name__, "message": exc.message[:300]}


def _stored(model: StoredModel) -> dict[str, Any]:
    """The figures of the proof, after opening the variant and replaying its proof."""
    manifest = model.manifest
    with Graphs.of(model, device="cpu") as graphs:
        replayed = replay(model, graphs.run)
        unenforced = [
            name for name in graphs.names if not _enforces_limits(graphs, name, manifest.call_spec.limits.get(name, {}))
        ]
    if unenforced:
        return {"status": "failed", "error": "limits", "message": f"limits are not enforced in {', '.join(unenforced)}"}
    worst = max(manifest.proof.cases, key=lambda case: case.max_abs_diff / case.tolerance, default=None)
    return {
        "status": manifest.proof.status,
        "recipe": manifest.recipe,
        "path": str(model.path),
        "graphs": {graph.name: str(model.path / graph.file) for graph in manifest.graphs},
        "call_spec": manifest.call_spec.to_dict(),
        "cases": len(manifest.proof.cases),
        "replayed": len(replayed),
        "largest": worst.max_abs_diff if worst else None,
        "tolerance": worst.tolerance if worst else None,
        "limit": manifest.proof.limit.to_dict() if manifest.proof.limit else None,
        "size": model.size,
        "tokenizer": model.has_file("tokenizer.json"),
        "answers": _answers(manifest.proof.answers),
    }


def _answers(found: AnswerProof | None) -> dict[str, Any] | None:
    """The result of comparing the pipeline with the reference library."""
    return None if found is None else {"status": found.status, "cases": found.cases, "reason": found.reason[:300]}


def _enforces_limits(graphs: Graphs, name: str, limits: Mapping[str, Mapping[str, int]]) -> bool:
    """Whether the limits that the session enforces are those of the manifest."""
    session = graphs.session(name)
    return {tensor: {str(axis): size for axis, size in axes.items()} for tensor, axes in session.limits.items()} == {
        tensor: {str(axis): size for axis, size in axes.items()} for tensor, axes in limits.items()
    }


def _refusal(exc: GpuxError) -> dict[str, Any]:
    typed = isinstance(exc, UnsupportedError | ConversionError | InputError) or type(exc) is not GpuxError
    status = "refused" if typed and not isinstance(exc, WorkerCrashedError) else "failed"
    kinds = [kind.__name__ for kind in type(exc).__mro__ if issubclass(kind, GpuxError)]
    log = exc.details.get("log")
    return {
        "status": status,
        "error": type(exc).__name__,
        "kinds": kinds,
        "message": exc.message[:600],
        "log": str(log) if log else None,
    }


def _early(folder: Path, settings: Settings, options: Mapping[str, Any]) -> bool:
    """Whether the plan alone refuses, before any download."""
    try:
        return explain_model(folder, settings=settings, **options).refusal is not None
    except GpuxError:
        return True


def main() -> int:
    """Print the row."""
    request = json.loads(sys.argv[1])
    folder, home = (Path(request.pop(name)) for name in ("folder", "home"))
    print(json.dumps(row(folder, home=home, **request)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
