"""The pipeline class of each task; built-in ones and plug-ins both register as entry points ``gpux.pipelines``."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint

from gpux.errors import UnsupportedTaskError
from gpux.model.tasks import canonical, translation_pair
from gpux.pipelines.base import Pipeline
from gpux.system.plugins import registered

GROUP = "gpux.pipelines"


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
    """
    known = pipelines()
    plain = "translation" if translation_pair(task) else task.strip().lower().replace("_", "-")
    name = plain if plain in known else canonical(task)
    if name not in known:
        raise UnsupportedTaskError(
            f"no pipeline for the task {task!r}; there is one for {', '.join(sorted(known))}", task=task
        )
    kind: type[Pipeline] = known[name].load()
    return kind
