"""The pipeline class of each task; built-in ones and plug-ins both register as entry points ``gpux.pipelines``."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib.metadata import EntryPoint

from gpux.errors import UnsupportedError, UnsupportedTaskError
from gpux.model.tasks import ALIASES, HUB_TASKS, canonical, tasks_by_inputs, translation_pair
from gpux.model.variant import StoredModel
from gpux.pipelines.base import Pipeline
from gpux.system.plugins import registered

GROUP = "gpux.pipelines"
#: Package -> the extra that installs it.
_EXTRAS = {"PIL": "vision", "soundfile": "audio", "soxr": "audio"}


def pipelines(found: Iterable[EntryPoint] | None = None) -> dict[str, EntryPoint]:
    """Task -> entry point of its pipeline class; a new dict each time.

    Raises:
        UsageError: two packages register the same task.
    """
    return registered(GROUP, "task", found)


def pipeline_class(task: str) -> type[Pipeline]:
    """The pipeline class of a task, by the Hub's name or by an alias.

    Raises:
        UnsupportedTaskError: no pipeline is registered for the task; the message lists the tasks that have one.
        UnsupportedError: the pipeline needs a package of an extra that is not installed.
    """
    known = pipelines()
    plain = "translation" if translation_pair(task) else task.strip().lower().replace("_", "-")
    name = plain if plain in known else canonical(task)
    if name not in known:
        raise UnsupportedTaskError(
            f"no pipeline for the task {task!r}; there is one for {', '.join(sorted(known))}",
            hint=_hint(plain, known),
            task=task,
        )
    try:
        kind: type[Pipeline] = known[name].load()
    except ModuleNotFoundError as exc:
        extra = _EXTRAS.get(exc.name or "")
        if extra is None:
            raise
        raise UnsupportedError(
            f"{name} needs the package {exc.name}, which is not installed",
            hint=f"Install it: pip install 'gpux[{extra}]'.",
            task=name,
        ) from exc
    return kind


def pipeline_of(model: StoredModel) -> type[Pipeline]:
    """The pipeline class for a stored model: of the task that it is stored for, and of what its graph reads.

    Raises:
        UnsupportedTaskError, UnsupportedError: as :func:`pipeline_class`.
    """
    return pipeline_class(model.pipeline_task)


def check_reads(kind: type[Pipeline], model: StoredModel) -> None:
    """Refuse a pipeline of texts for a model of pictures that is stored for the same task, and the reverse.

    Raises:
        UnsupportedTaskError: the graph reads something else than the pipeline gives it.
    """
    found = model.pipeline_task
    if kind.task == found or not {kind.task, found} <= tasks_by_inputs(canonical(model.task)):
        return
    raise UnsupportedTaskError(
        f"the graph of {model.id} reads what {found} needs, and not what {kind.task} gives it",
        hint=f'Open it for its own task: pipeline("{found}", model="{model.id}").',
        task=kind.task,
    )


def _hint(task: str, known: Iterable[str]) -> str:
    """The nearest task with a pipeline; of a task without one, how its variants run."""
    tasks = sorted(known)
    if canonical(task) in HUB_TASKS:
        return f"`gpux pull --task {canonical(task)}` stores models for it; run them on arrays with `gpux.Graphs`."
    aliases = [name for name, meant in ALIASES.items() if meant in tasks]
    near = difflib.get_close_matches(task, (*tasks, *aliases), n=1, cutoff=0.5)
    return f"Did you mean {near[0]!r}?" if near else f"Name one of these tasks, for example {tasks[0]!r}."
