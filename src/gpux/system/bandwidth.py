"""Measurement of the memory bandwidth of this machine, in a fraction of a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from gpux.system.machine import cpu_threads

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: Two buffers of this size do not fit into the last-level cache of common processors.
BUFFER_BYTES = 64 << 20
_MOST_THREADS = 16  #: more threads do not increase the bandwidth


def measure_bandwidth(
    *,
    buffer_bytes: int = BUFFER_BYTES,
    limit: float = 0.2,
    threads: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Bytes per second that the processor reads and writes while copying memory; the best of several copies.

    A copy of n bytes moves 2n bytes: n read and n written.

    Args:
        buffer_bytes: size of each of the two buffers.
        limit: seconds after which no further copy begins; at least one copy is made.
        threads: threads that copy in parallel, as onnxruntime's do; default: :func:`cpu_threads`.
        clock: seconds, for tests.
    """
    import numpy as np  # slow to import, and needed for the measurement alone

    started = clock()
    count = min(_MOST_THREADS, threads or cpu_threads())
    source, target = np.ones(buffer_bytes // 8, np.int64), np.empty(buffer_bytes // 8, np.int64)
    best = float("inf")
    with ThreadPoolExecutor(count) as pool:
        _copy(pool, target, source, count)  # allocates the pages before the measurement
        while best == float("inf") or clock() - started < limit:
            before = clock()
            _copy(pool, target, source, count)
            best = min(best, max(clock() - before, 1e-9))
    return 2 * source.nbytes / best


def _copy(pool: ThreadPoolExecutor, target: npt.NDArray[np.int64], source: npt.NDArray[np.int64], count: int) -> None:
    """Copy one piece per thread; numpy releases the interpreter lock meanwhile."""
    import numpy as np  # as above

    work = [pool.submit(np.copyto, target[piece], source[piece]) for piece in _pieces(source.size, count)]
    for done in work:
        done.result()


def _pieces(size: int, count: int) -> Iterator[slice]:
    step = -(-size // count)
    return (slice(start, start + step) for start in range(0, size, step))
