"""Reports of what a worker is doing: sent when it changes, at most ten times a second."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from gpux.server.workers.messages import Load

#: Seconds between two reports at least.
_PAUSE = 0.1


class Reports:
    """Sends :class:`~gpux.server.workers.messages.Load` from a thread of its own.

    Args:
        read: fills in what is known where requests are: running, waiting, cache_bytes, steps.
        send: sends a message.
    """

    def __init__(self, read: Callable[[], Load], send: Callable[[Any], None]) -> None:
        self._read, self._send = read, send
        self._sizes: Counter[int] = Counter()
        self._rows = 0
        self._lock = threading.Lock()
        self._changed, self._closed = threading.Event(), threading.Event()
        self._last = Load()
        self._thread = threading.Thread(target=self._loop, name="reports", daemon=True)
        self._thread.start()

    def changed(self) -> None:
        """Note that a request came or ended."""
        if not self._changed.is_set():
            self._changed.set()

    def batch(self, requests: int, rows: int) -> None:
        """Count a batch that begins; zeros when one has ended."""
        with self._lock:
            if requests:
                self._sizes[requests] += 1
            self._rows = rows
        self.changed()

    def close(self) -> None:
        """Send no more."""
        self._closed.set()
        self._changed.set()
        self._thread.join()

    def _loop(self) -> None:
        while not self._closed.is_set():
            self._changed.wait(_PAUSE if self._last.running else None)  # steps and rows change while requests run
            self._changed.clear()
            self._closed.wait(_PAUSE)  # what follows at once is in the same report
            load = self._read()
            with self._lock:
                load.rows = load.rows or self._rows
                load.batch_sizes = dict(Counter(load.batch_sizes) + self._sizes)
                self._sizes.clear()
            if load != self._last and not self._closed.is_set():
                self._send(load)
                self._last = load
