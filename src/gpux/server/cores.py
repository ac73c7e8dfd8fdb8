"""Which worker runs on which cores: workers that run at the same time get disjoint sets.

Each worker computes with as many threads as there are cores. One busy worker has all of them; of several, each has its
share, so that their threads do not wait for each other within a step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

from gpux.system.machine import core_groups, cpu_threads

#: Seconds for which changes are collected, so that short requests do not move processes about.
DEBOUNCE = 0.05


class User(Protocol):
    """What needs cores: a worker."""

    cores: list[int] | None

    @property
    def requests(self) -> int:
        """More than 0 while it computes."""
        ...

    def use_cores(self, cores: list[int]) -> None:
        """Run on these only."""


class Cores:
    """Shares the cores of this machine, or of its control group, among busy workers. Used in one event loop.

    Args:
        workers: the present workers, in an order that stays.
        groups: logical processors of each core; by default of this machine.
        threads: cores to compute with at most; by default by the control group.
    """

    def __init__(
        self,
        workers: Callable[[], Sequence[User]],
        *,
        groups: Sequence[Sequence[int]] | None = None,
        threads: int | None = None,
    ) -> None:
        self._workers = workers
        self._groups = groups if groups is not None else core_groups()
        self._threads = threads if threads is not None else cpu_threads()
        self._timer: asyncio.TimerHandle | None = None

    def changed(self) -> None:
        """A worker has become busy or idle; shares are computed again soon."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DEBOUNCE, self.apply)

    def apply(self) -> None:
        """Send each busy worker its cores, where they have changed."""
        self._timer = None
        busy = [worker for worker in self._workers() if worker.requests]
        for worker, cores in zip(busy, shares(self._groups, self._threads, len(busy)), strict=True):
            if cores != (worker.cores or self._all()):
                worker.use_cores(cores)

    def close(self) -> None:
        """Send nothing more."""
        if self._timer is not None:
            self._timer.cancel()

    def _all(self) -> list[int]:
        return _joined(self._groups)


def shares(groups: Sequence[Sequence[int]], threads: int, count: int) -> list[list[int]]:
    """The logical processors of each of ``count`` busy workers.

    Args:
        groups: logical processors of each physical core.
        threads: physical cores that all workers together may use.
        count: more workers than cores share one each.
    """
    if count <= 1:
        return [_joined(groups)] * count
    used = groups[: max(1, min(threads, len(groups)))]
    if count >= len(used):
        return [list(used[number % len(used)]) for number in range(count)]
    bounds = [round(number * len(used) / count) for number in range(count + 1)]
    return [_joined(used[start:end]) for start, end in pairwise(bounds)]


def _joined(groups: Sequence[Sequence[int]]) -> list[int]:
    return sorted(cpu for group in groups for cpu in group)
