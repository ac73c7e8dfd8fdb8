"""The tasks that pipelines were called for, of each worker: what the API lists as cached pipelines."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from gpux.server.workers.worker import Worker

_tasks: WeakKeyDictionary[Worker, dict[str, None]] = WeakKeyDictionary()


def note(worker: Worker, task: str) -> None:
    """Remember that a worker answered a task."""
    _tasks.setdefault(worker, {})[task] = None


def tasks(worker: Worker, own: str) -> list[str]:
    """The worker's own task, then those it answered besides, as the requests named them."""
    return list(dict.fromkeys([own, *_tasks.get(worker, {})]))
