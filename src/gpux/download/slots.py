"""The number of connections that a pull uses at once: bounded over all files, raised only while that is faster."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gpux.system.cancel import CancelToken

CAP = 8  #: connections of one pull
WINDOW = 0.5  #: seconds over which throughput is measured
GAIN = 1.1  #: factor by which a step must raise the throughput to be kept
REST = 20  #: windows without a further step after one that brought no gain
POLL = 0.1  # seconds between looks at the cancel token


class ConnectionSlots:
    """A budget of connections, shared by the files of a pull. Thread-safe.

    Every file may use one connection while the budget lasts. Extra connections for large files are added in steps, 1,
    3, 7, while the throughput of the whole pull grows with them; a step without a gain is taken back.
    """

    def __init__(self, cap: int = CAP, clock: Callable[[], float] = time.monotonic) -> None:
        self._cap = cap
        self._clock = clock
        self._changed = threading.Condition()
        self._busy = self._extra = 0
        self._allowed, self._before = 0, 0  # extra connections: now, and before the last step
        self._full = False  # whether all allowed connections were in use
        self._closed_until = 0.0
        self._began = clock()
        self._bytes = 0
        self._best = 0.0  # bytes per second before the last step
        self._settling = 0  # windows that are not judged

    @property
    def allowed(self) -> int:
        """How many connections one large file may use now."""
        return 1 + self._allowed

    @contextmanager
    def slot(self, cancel: CancelToken, *, extra: bool, needed: Callable[[], bool] = lambda: True) -> Iterator[bool]:
        """Hold one connection; yields False, without one, as soon as ``needed`` returns False.

        Args:
            cancel: ends the wait for a free slot.
            extra: True for a file that holds a connection already.
            needed: called while waiting.

        Raises:
            CancelledError: ``cancel`` was set while waiting.
        """
        admitted = self._enter(cancel, extra, needed)
        try:
            yield admitted
        finally:
            if admitted:
                self._leave(extra)

    def _enter(self, cancel: CancelToken, extra: bool, needed: Callable[[], bool]) -> bool:
        with self._changed:
            while not self._admits(extra):
                cancel.check()
                if not needed():
                    return False
                self._changed.wait(POLL)
            self._busy += 1
            self._extra += extra
            self._full |= self._extra >= self._allowed
            return True

    def _leave(self, extra: bool) -> None:
        with self._changed:
            self._busy -= 1
            self._extra -= extra
            self._changed.notify_all()

    def close_for(self, seconds: float) -> None:
        """Admit no connection for that long: the server limits requests."""
        with self._changed:
            self._closed_until = max(self._closed_until, self._clock() + seconds)

    def arrived(self, count: int) -> None:
        """Count ``count`` bytes; at the end of a window the number of connections is adjusted."""
        with self._changed:
            self._bytes += count
            elapsed = self._clock() - self._began
            if elapsed < WINDOW:
                return
            if self._settling:
                self._settling -= 1
            elif self._full:
                self._adjust(self._bytes / elapsed)
            self._bytes, self._began = 0, self._began + elapsed
            self._full = self._extra >= self._allowed

    def _adjust(self, speed: float) -> None:
        if speed < self._best * GAIN:
            self._allowed, self._settling, self._best = self._before, REST, 0.0
        elif self._allowed < self._cap - 1:
            self._before, self._best = self._allowed, speed
            self._allowed = min(2 * self._allowed + 1, self._cap - 1)
            self._settling = 1  # connections are being opened
        else:
            self._before, self._best = self._allowed, 0.0
        self._changed.notify_all()

    def _admits(self, extra: bool) -> bool:
        if self._busy >= self._cap or self._clock() < self._closed_until:
            return False
        return not extra or self._extra < self._allowed
