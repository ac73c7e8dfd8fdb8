"""A cancel token: set in one thread, obeyed in another."""

from __future__ import annotations

import threading

from gpux.errors import CancelledError


class CancelToken:
    """Handed to a long call as ``cancel=``; :meth:`cancel` makes that call end with ``CancelledError``.

    Safe to set from any thread and from a signal handler.
    """

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask the call to stop at its next safe point."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """True once :meth:`cancel` was called."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise :class:`~gpux.errors.CancelledError` if the token is set."""
        if self._event.is_set():
            raise CancelledError("cancelled", hint="Run the same command again: what had arrived is kept.")

    def wait(self, seconds: float) -> bool:
        """Sleep for up to ``seconds``; True as soon as the token is set."""
        return self._event.wait(seconds)
