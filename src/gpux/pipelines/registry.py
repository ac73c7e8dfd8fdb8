"""Which class answers which task. Built-ins and plug-ins register alike, under the entry points ``gpux.pipelines``."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint

from gpux.errors import UnsupportedTaskError
from gpux.pipelines.base import Pipeline
from gpux.plugins import registered

GROUP = "gpux.pipelines"


def pipelines(found: Iterable[EntryPoint] | None = None) -> dict[str, EntryPoint]:
    """Task -> entry point of its pipeline class; a new dict each time.

    Raises:
        UsageError: two packages register the same task.
    """
    return registered(GROUP, "task", found)


def pipeline_class(task: str) -> type[Pipeline]:
    """The pipeline class of a task.

    Raises:
        UnsupportedTaskError: there is none; the message lists the known tasks.
    """
    known = pipelines()
    if task not in known:
        raise UnsupportedTaskError(
            f"no pipeline for the task {task!r}; there is one for {', '.join(sorted(known))}", task=task
        )
    kind: type[Pipeline] = known[task].load()
    return kind
