"""Opening a model: the stored variant, pulled where it is absent, and the pipeline of its task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpux.errors import UnsupportedTaskError, UsageError
from gpux.model.reference import ModelRef, Reference
from gpux.model.tasks import canonical
from gpux.model.variant import StoredModel
from gpux.pipelines.base import Pipeline
from gpux.pipelines.registry import pipeline_class
from gpux.pull.api import pull_model, whole_model
from gpux.store import Store
from gpux.system.cancel import CancelToken
from gpux.system.progress import ProgressCallback
from gpux.system.settings import Settings


def open_model(
    ref: Reference,
    *,
    task: str | None = None,
    revision: str | None = None,
    settings: Settings | None = None,
    progress: ProgressCallback | bool | None = None,
    cancel: CancelToken | None = None,
) -> StoredModel:
    """The model as it is stored, without asking anyone; pulled if it is not there.

    A branch means the commit that it had at the last pull: ``pull_model`` is what looks for a newer one.
    """
    settings = settings or Settings.from_env()
    parsed = whole_model(ModelRef.parse(ref).at(revision))
    if parsed.scheme != "local":
        store = Store(settings.store)
        found = store.find_ref(parsed, task=canonical(task) if task else None)
        if found is not None:
            store.touch(found)
            return found
    return pull_model(parsed, task=task, settings=settings, progress=progress, cancel=cancel)


def pipeline(
    task: str | None = None,
    model: StoredModel | ModelRef | str | Path | None = None,
    *,
    device: str | int = "auto",
    revision: str | None = None,
    settings: Settings | None = None,
    **options: Any,
) -> Pipeline:
    """Open a model, ready to answer; it is pulled first where it is not stored yet.

    >>> pipeline("feature-extraction", model="sentence-transformers/all-MiniLM-L6-v2")("hello")

    Args:
        task: the Hub's name of a task, or an alias; by default the model's own.
        model: a stored model, or a reference as a user types it.
        device: ``auto``, a short name (``cuda``, ``cuda:1``, ``coreml`` …), an execution provider's full name, or a
            number as transformers takes it (0 is ``cuda:0``, -1 is ``cpu``).
        revision: branch, tag or commit of a reference.
        settings: folders, token and switches; by default those of the environment.
        options: of the pipeline (``threads``, ``allow_cpu_nodes``) and defaults for its calls.

    Raises:
        UnsupportedTaskError: no pipeline for the task, or the model is stored for another one.
        UsageError: an unknown option, or no model.
        CorruptFileError: a file of the stored model is gone.
        DeviceError: the device is not there.
    """
    if model is None:
        raise UsageError("no model was given", hint='pipeline("feature-extraction", model="org/name")')
    kind = None if task is None else pipeline_class(task)  # an unknown one is refused before anything is pulled
    wanted = None if kind is None else kind.model_task
    if not isinstance(model, StoredModel):
        model = open_model(model, task=wanted, revision=revision, settings=settings)
    stored = canonical(model.task)
    if wanted not in (None, stored):
        raise UnsupportedTaskError(
            f"{model.id} is stored for {stored}, not for {wanted}", hint=f"Run `gpux pull {model.id} --task {wanted}`."
        )
    return (kind or pipeline_class(stored))(model, device=device, settings=settings, **options)
