"""How this program talks to the process that started it: one JSON request in, JSON lines out, noise into the log.

Standard output is kept for events under a descriptor of its own; descriptor 1 then leads to the log (standard error).
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any


class Refused(Exception):
    """A typed answer that says why there is no result; ``code`` is the code of one of gpux's errors."""

    def __init__(self, code: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


class Events:
    """Writes events, objects with an ``event`` key, one per line."""

    def __init__(self) -> None:
        self._stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def send(self, event: str, **values: Any) -> None:
        """One event, at once."""
        self._stream.write(json.dumps({"event": event, **values}) + "\n")
        self._stream.flush()


def read_request() -> dict[str, Any]:
    """The request: the first line of standard input."""
    request: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    return request


def end_with_parent() -> None:
    """End this process when standard input closes, which is when the parent is gone. It has no children."""
    threading.Thread(target=_watch_input, name="lifeline", daemon=True).start()


def _watch_input() -> None:
    try:
        while os.read(0, 1):
            pass
    except OSError:
        pass
    os._exit(1)
