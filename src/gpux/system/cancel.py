"""A cancel token, which one thread sets and another checks."""

from __future__ import annotations

import time

from gpux.errors import CancelledError

POLL = 0.02  # seconds between checks of the token while waiting


class CancelToken:
    """The argument ``cancel=`` of long calls; :meth:`cancel` makes the call end with ``CancelledError``.

    Safe to set from any thread and from a signal handler.
    """

    def __init__(self, parent: CancelToken | None = None) -> None:
        self._set = False  # not an Event: its lock must not be acquired in a signal handler
        self._parent = parent

    def child(self) -> CancelToken:
        """A token that is set with this one, and can be set alone, to stop a part of the work."""
        return CancelToken(self)

    def cancel(self) -> None:
        """Make the call stop at its next safe point."""
        self._set = True

    @property
    def cancelled(self) -> bool:
        """Whether :meth:`cancel` was called on this token or on its parent."""
        return self._set or (self._parent is not None and self._parent.cancelled)

    def check(self) -> None:
        """Raise :class:`~gpux.errors.CancelledError` if the token is set."""
        if self.cancelled:
            raise CancelledError(
                "cancelled", hint="Run the same command again: it resumes with the bytes that have arrived."
            )

    def wait(self, seconds: float) -> bool:
        """Sleep for up to ``seconds``; returns early, and True, when the token is set."""
        deadline = time.monotonic() + seconds
        while not self.cancelled and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, POLL))
        return self.cancelled
