"""How fast this machine's memory is: measured, in a fraction of a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from gpux.system.machine import cpu_threads

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: Two of these do not fit into the last-level cache of common processors, so that memory answers and no cache.
BUFFER_BYTES = 64 << 20
_MOST_THREADS = 16  #: more of them do not make memory faster


def measure_bandwidth(
    *,
    buffer_bytes: int = BUFFER_BYTES,
    limit: float = 0.2,
    threads: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Bytes per second that the processor reads and writes while it copies memory; the best of a few copies.

    A copy of n bytes moves 2n: each is read and written. ``threads`` copy side by side, as onnxruntime's do; default:
    as many as computing pays on. ``limit`` is in seconds, and no copy begins after it, but at least one is made; two
    buffers of ``buffer_bytes`` are allocated for the time.
    """
    import numpy as np

    started = clock()
    count = min(_MOST_THREADS, threads or cpu_threads())
    source, target = np.ones(buffer_bytes // 8, np.int64), np.empty(buffer_bytes // 8, np.int64)
    best = float("inf")
    with ThreadPoolExecutor(count) as pool:
        _copy(pool, target, source, count)  # the pages exist before the copies that count
        while best == float("inf") or clock() - started < limit:
            before = clock()
            _copy(pool, target, source, count)
            best = min(best, max(clock() - before, 1e-9))
    return 2 * source.nbytes / best


def _copy(pool: ThreadPoolExecutor, target: npt.NDArray[np.int64], source: npt.NDArray[np.int64], count: int) -> None:
    """Copy in as many pieces as there are threads; numpy lets go of Python's lock meanwhile."""
    import numpy as np

    work = [pool.submit(np.copyto, target[piece], source[piece]) for piece in _pieces(source.size, count)]
    for done in work:
        done.result()


def _pieces(size: int, count: int) -> Iterator[slice]:
    step = -(-size // count)
    return (slice(start, start + step) for start in range(0, size, step))
