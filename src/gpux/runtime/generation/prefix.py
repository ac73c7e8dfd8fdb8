"""The cache of the last conversation, kept for its next turn, which begins with the same tokens."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from gpux.runtime.generation.decoder import DecoderState

#: Tokens that a prompt has to share with a kept cache: fewer are computed faster than they are worth.
LEAST = 16


class PrefixCache:
    """Holds at most one idle state. Safe to use from many threads: whoever takes it has it alone."""

    def __init__(self) -> None:
        self._state: DecoderState | None = None
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        with self._lock:
            return 0 if self._state is None else self._state.nbytes

    def take(self, prompt: Sequence[int]) -> DecoderState | None:
        """The kept state, if it holds a beginning of this prompt; it is the caller's to give back or to close."""
        with self._lock:
            state = self._state
            if state is None or state.shared(prompt) < LEAST:
                return None
            self._state = None
            return state

    def give(self, state: DecoderState) -> None:
        """Keep a state that nobody uses any more; the one before is closed."""
        with self._lock:
            before, self._state = self._state, state
        if before is not None:
            before.close()

    def clear(self) -> None:
        """Let go of what is held."""
        with self._lock:
            before, self._state = self._state, None
        if before is not None:
            before.close()
