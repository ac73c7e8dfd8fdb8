"""How many connections a pull uses at once: bounded over all its files, and more only while more is faster."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gpux.system.cancel import CancelToken

CAP = 8  #: connections of one pull
WINDOW = 0.5  #: seconds over which speed is measured
GAIN = 1.1  #: what twice the connections must bring, at least, to be kept
REST = 20  #: windows without a try for more after one that brought nothing
POLL = 0.1  # seconds between looks at the cancel token


class Lanes:
    """A budget of connections, shared by the files of a pull; safe to use from several threads.

    Every file may have one while there are any. Further ones for large files are added in steps, 1, 3, 7, while the
    bytes per second of the whole pull grow with them; a step that does not pay is taken back.
    """

    def __init__(self, cap: int = CAP, clock: Callable[[], float] = time.monotonic) -> None:
        self._cap = cap
        self._clock = clock
        self._changed = threading.Condition()
        self._busy = self._further = 0
        self._allowed, self._before = 0, 0  # further connections: now, and before the last step
        self._full = False  # all that are allowed were in use
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
    def lane(self, cancel: CancelToken, *, further: bool, needed: Callable[[], bool] = lambda: True) -> Iterator[bool]:
        """Hold one connection; ``further`` for a file that has one already. False when it is ``needed`` no more.

        Raises:
            CancelledError: ``cancel`` was set while waiting.
        """
        admitted = self._enter(cancel, further, needed)
        try:
            yield admitted
        finally:
            if admitted:
                self._leave(further)

    def _enter(self, cancel: CancelToken, further: bool, needed: Callable[[], bool]) -> bool:
        with self._changed:
            while not self._admits(further):
                cancel.check()
                if not needed():
                    return False
                self._changed.wait(POLL)
            self._busy += 1
            self._further += further
            self._full |= self._further >= self._allowed
            return True

    def _leave(self, further: bool) -> None:
        with self._changed:
            self._busy -= 1
            self._further -= further
            self._changed.notify_all()

    def close_for(self, seconds: float) -> None:
        """Let nobody in for a while: the server asked for a pause."""
        with self._changed:
            self._closed_until = max(self._closed_until, self._clock() + seconds)

    def arrived(self, count: int) -> None:
        """Bytes came; at the end of a window the number of connections is judged."""
        with self._changed:
            self._bytes += count
            elapsed = self._clock() - self._began
            if elapsed < WINDOW:
                return
            if self._settling:
                self._settling -= 1
            elif self._full:
                self._judge(self._bytes / elapsed)
            self._bytes, self._began = 0, self._began + elapsed
            self._full = self._further >= self._allowed

    def _judge(self, speed: float) -> None:
        if speed < self._best * GAIN:
            self._allowed, self._settling, self._best = self._before, REST, 0.0
        elif self._allowed < self._cap - 1:
            self._before, self._best = self._allowed, speed
            self._allowed = min(2 * self._allowed + 1, self._cap - 1)
            self._settling = 1  # connections are being made
        else:
            self._before, self._best = self._allowed, 0.0
        self._changed.notify_all()

    def _admits(self, further: bool) -> bool:
        if self._busy >= self._cap or self._clock() < self._closed_until:
            return False
        return not further or self._further < self._allowed
