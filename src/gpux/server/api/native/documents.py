"""What the native API says about models, loaded models and jobs, as JSON-able values without paths of this machine."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from gpux.errors import GpuxError
from gpux.jobs import Job
from gpux.model.tasks import canonical
from gpux.model.variant import StoredModel
from gpux.server.models import ModelState
from gpux.server.security.redaction import clean
from gpux.store import Store

#: Keys of documents whose values are places on this machine.
_PLACES = frozenset({"path", "folder", "log", "home", "process"})


def without_places(value: Any) -> Any:
    """Nested values without the keys that hold paths or processes."""
    if isinstance(value, dict):
        return {key: without_places(item) for key, item in value.items() if key not in _PLACES}
    return [without_places(item) for item in value] if isinstance(value, (list, tuple)) else value


def cleaned(value: Any) -> Any:
    """Nested values without paths of this machine in their texts."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {key: cleaned(item) for key, item in value.items()}
    return [cleaned(item) for item in value] if isinstance(value, (list, tuple)) else value


def model_document(
    model: StoredModel, store: Store, *, name: str, state: str, default: bool, revision: str | None
) -> dict[str, Any]:
    """A stored model.

    Args:
        model: the variant.
        store: that holds it.
        name: the shortest one.
        state: see :data:`gpux.server.models.Phase`.
        default: whether the model's name without a precision stands for it.
        revision: that the name contains.
    """
    manifest = model.manifest
    return {
        "name": name,
        "task": canonical(model.task),
        "precision": manifest.precision,
        "bytes": model.size,
        "commit": manifest.commit,
        "evidence": manifest.evidence,
        "default": default,
        "revision": revision,
        "kept": store.pinned(model),
        "created": manifest.created or None,
        "last_used": store.last_used(model).isoformat(timespec="seconds"),
        "state": state,
    }


def proof_document(model: StoredModel) -> dict[str, Any]:
    """What was compared, and with which result; without the single cases."""
    proof = model.manifest.proof
    answers = proof.answers
    return {
        "status": proof.status,
        "evidence": model.manifest.evidence,
        "cases": len(proof.cases),
        "max_abs_diff": finite(proof.max_abs_diff),
        "loss": {name: finite(value) for name, value in proof.loss.items()},
        "limit": None if proof.limit is None else {"name": proof.limit.name, "tokens": proof.limit.length},
        "reference": dict(proof.reference),
        "answers": None
        if answers is None
        else {
            "status": answers.status,
            "cases": answers.cases,
            "max_abs_diff": finite(answers.max_abs_diff),
            "reason": answers.reason,
        },
    }


def state_document(state: ModelState) -> dict[str, Any]:
    """What a model is doing; the fields of a process are null unless it is loaded."""
    loaded = state.loaded
    worker = None if loaded is None else loaded.worker
    keep_alive = None if loaded is None else finite(loaded.keep_alive)
    expires = None if loaded is None else loaded.expires_at
    return {
        "name": state.name,
        "state": state.phase,
        "since": _time(state.since) if state.since else None,
        "progress": state.progress,
        "error": None if state.error is None else error_document(state.error),
        "task": None if state.model is None else state.model.task,
        "precision": None if state.model is None else state.model.manifest.precision,
        "device": None if worker is None else worker.info.device,
        "bytes": state.memory_bytes,
        "requests": {
            "running": 0 if worker is None else worker.load.running,
            "waiting": state.requests if worker is None else max(0, state.requests - worker.load.running),
        },
        "mode": None if worker is None else ("batches" if worker.info.batches else "turns"),
        "rows": 0 if worker is None else worker.load.rows,
        "cache_bytes": 0 if worker is None else worker.load.cache_bytes,
        "context_length": None if worker is None else worker.info.context_length,
        "pinned": state.pinned,
        "preload": state.preload,
        "keep_alive": keep_alive,
        "expires": None if expires is None else _time(expires),
        "load_seconds": None if loaded is None else round(loaded.load_seconds, 3),
    }


def job_document(job: Job) -> dict[str, Any]:
    """One job."""
    error = None if job.error is None else error_document(GpuxError.from_dict(job.error))
    return {**without_places(job.to_dict()), "error": error}


def error_document(error: GpuxError) -> dict[str, Any]:
    """An error inside of a document."""
    from gpux.server.api.native import API

    found: dict[str, Any] = dict(API.error_body(error, error.http_status)["error"])
    return found


def finite(value: float | None) -> float | None:
    """The value; None for infinity and NaN, which JSON has not."""
    return value if value is not None and value - value == 0 else None


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
