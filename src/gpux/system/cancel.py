"""A cancel token: set in one thread, obeyed in another."""

from __future__ import annotations

import time

from gpux.errors import CancelledError

POLL = 0.02  # seconds between looks at the parent


class CancelToken:
    """Handed to a long call as ``cancel=``; :meth:`cancel` makes that call end with ``CancelledError``.

    Safe to set from any thread and from a signal handler.
    """

    def __init__(self, parent: CancelToken | None = None) -> None:
        self._set = False  # no Event: its lock is not safe to take in a signal handler
        self._parent = parent

    def child(self) -> CancelToken:
        """A token that is set with this one, and can be set alone: to stop a part of the work."""
        return CancelToken(self)

    def cancel(self) -> None:
        """Ask the call to stop at its next safe point."""
        self._set = True

    @property
    def cancelled(self) -> bool:
        """True once :meth:`cancel` was called, here or on the parent."""
        return self._set or (self._parent is not None and self._parent.cancelled)

    def check(self) -> None:
        """Raise :class:`~gpux.errors.CancelledError` if the token is set."""
        if self.cancelled:
            raise CancelledError("cancelled", hint="Run the same command again: what had arrived is kept.")

    def wait(self, seconds: float) -> bool:
        """Sleep for up to ``seconds``; True as soon as the token is set."""
        deadline = time.monotonic() + seconds
        while not self.cancelled and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, POLL))
        return self.cancelled
