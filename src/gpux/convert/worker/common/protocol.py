"""How the worker talks to the process that started it: one JSON request in, JSON lines out, noise into the log.

The parent opens the log file as this process's stderr. Standard output is kept for events under a private file
descriptor, and descriptor 1 is pointed at the log, so that whatever an exporter or a native library prints ends there.
"""

from __future__ import annotations

import json
import os
import signal
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
    """Writes events to the descriptor that standard output was when the process started."""

    def __init__(self) -> None:
        self._stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def send(self, event: str, **values: Any) -> None:
        """One event, at once."""
        self._stream.write(json.dumps({"event": event, **values}) + "\n")
        self._stream.flush()

    def stage(self, stage: str, message: str) -> None:
        """A stage begins; the one before it is over."""
        self.send("stage", stage=stage, message=message)

    def warning(self, message: str) -> None:
        """Something that the user should know and that stops nothing."""
        self.send("warning", message=message)

    def result(self, **values: Any) -> None:
        """The last event of a command that worked."""
        self.send("result", **values)

    def failure(self, code: str, message: str, hint: str | None = None, cause: str | None = None) -> None:
        """The last event of a command that did not."""
        self.send("failure", code=code, message=message, hint=hint, cause=cause)


def read_request() -> dict[str, Any]:
    """The request: the first line of standard input."""
    line = sys.stdin.buffer.readline()
    request: dict[str, Any] = json.loads(line)
    return request


def die_with_parent() -> None:
    """End this process and its children when standard input closes, which is when the parent is gone."""
    threading.Thread(target=_wait_for_end_of_input, name="lifeline", daemon=True).start()


def _wait_for_end_of_input() -> None:
    try:
        while os.read(0, 1):
            pass
    except OSError:
        pass
    # Only a group of our own: started by hand, the group is the shell's job.
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)
