"""Which inputs run together: sorted by size, so that little is padded, and within a budget that bounds memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

#: Bytes of one run's largest output at most: a vocabulary of 250,000 entries gives a megabyte for every token.
OUTPUT_BYTES = 64_000_000
#: Bytes of weights up to which a second copy is loaded, for a session whose runs have one thread each.
SECOND_COPY_BYTES = 256_000_000


@dataclass(frozen=True)
class BatchBudget:
    """How much runs together, in units of :meth:`gpux.Pipeline.size`: tokens of a text, or whole inputs.

    Args:
        cpu_per_thread: units of one run for each thread that it uses on the CPU.
        one_thread: units of one run of a session with one thread per run.
        device: units of one run on any other device.
        one_thread_from: units per thread from which much input on the CPU runs as one batch per core, each on one
            thread; None: never.
    """

    cpu_per_thread: int = 1
    one_thread: int = 1
    device: int = 32
    one_thread_from: int | None = None


def plan(sizes: Sequence[int], budget: int, largest: int | None = None) -> list[list[int]]:
    """Batches of indices, largest inputs first.

    Args:
        sizes: units of each input.
        budget: units of one batch at most, padding included; a larger input runs alone.
        largest: inputs of one batch at most.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        width = sizes[batches[-1][0]] if batches else 0
        full = not batches or (len(batches[-1]) + 1) * width > budget or len(batches[-1]) == largest
        if full:
            batches.append([])
        batches[-1].append(index)
    return batches


def overlapped(run: Callable[[T], R], items: Sequence[T], runs: int) -> Iterator[R]:
    """``run`` of every item, in order, with up to ``runs`` at once and at most as many finished results waiting.

    A single item runs in the caller's thread. When a run fails, or the caller stops iterating, items that have not
    started are cancelled.
    """
    runs = min(runs, len(items))
    if runs <= 1:
        yield from map(run, items)
        return
    with ThreadPoolExecutor(runs, thread_name_prefix="gpux") as threads:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                if len(waiting) > runs:
                    yield waiting.popleft().result()
                waiting.append(threads.submit(run, item))
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
