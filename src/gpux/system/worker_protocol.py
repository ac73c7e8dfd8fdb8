"""The worker's side of the protocol of :func:`gpux.system.process.converse`, for every program that gpux starts.

The parent writes one JSON request to the program's standard input and keeps it open: when it closes, the parent is
gone and the program ends itself. The program answers on standard output with events, JSON objects with an ``event``
key, one per line; the last one is ``result`` or ``failure``. Standard error is the log.

This module runs in the interpreter of a toolchain, which has no gpux installed: it imports the standard library alone.
"""

from __future__ import annotations

import errno
import faulthandler
import json
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

#: What a request asks for, and the values of the ``result`` event that answers it.
Request = dict[str, Any]
Answer = Callable[[Request, "Events"], Mapping[str, Any]]


class Refused(Exception):
    """A failure with a code: the program ends with a ``failure`` event, and the parent raises the error of that code.

    Args:
        code: of an error in :mod:`gpux.errors`.
        message: what is wrong; the parent puts the model's name before it.
        hint: what the user can do.
    """

    def __init__(self, code: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


class Events:
    """Writes events to standard output, and redirects all other output of the process to standard error.

    The events get a private file descriptor and descriptor 1 becomes the log, so that what a native library prints
    does not end up between events.
    """

    def __init__(self) -> None:
        self._stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def send(self, event: str, **values: Any) -> None:
        """Write one event and flush it."""
        self._stream.write(json.dumps({"event": event, **values}) + "\n")
        self._stream.flush()

    def stage(self, stage: str, message: str) -> None:
        """Report that a stage begins; the previous stage is finished."""
        self.send("stage", stage=stage, message=message)

    def warning(self, message: str) -> None:
        """Report something that the user should know and that does not stop the work."""
        self.send("warning", message=message)

    def result(self, **values: Any) -> None:
        """End with a result."""
        self.send("result", **values)

    def failure(self, code: str, message: str, hint: str | None = None, cause: str | None = None) -> None:
        """End with a failure."""
        self.send("failure", code=code, message=message, hint=hint, cause=cause)


def read_request() -> Request:
    """The request: the first line of standard input."""
    request: Request = json.loads(sys.stdin.buffer.readline())
    return request


def die_with_parent() -> None:
    """Kill this process and its children when standard input closes, in a thread."""
    threading.Thread(target=_wait_for_end_of_input, name="parent-watch", daemon=True).start()


def _wait_for_end_of_input() -> None:
    try:
        while os.read(0, 1):
            pass
    except OSError:
        pass
    # The group only if this process leads it: a program that was started by hand shares the shell's group.
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


def describe(exc: BaseException) -> dict[str, str | None]:
    """The ``failure`` event for an exception, by its type: ``code``, ``message``, ``hint`` and ``cause``."""
    if isinstance(exc, Refused):
        return {"code": exc.code, "message": exc.message, "hint": exc.hint, "cause": _line(exc.__cause__)}
    code, hint = _classify(exc)
    return {"code": code, "message": _line(exc), "hint": hint, "cause": _line(exc.__cause__)}


def _classify(exc: BaseException) -> tuple[str, str | None]:
    if isinstance(exc, MemoryError):
        return "out_of_memory", "Close other programs to free memory, or use a machine with more."
    if isinstance(exc, OSError) and exc.errno == errno.ENOSPC:
        return "disk_full", None
    if isinstance(exc, ImportError):
        return "toolchain", "Install the toolchain again: `gpux toolchain list` shows its name."
    if isinstance(exc, (_safetensors_error(), pickle.UnpicklingError)):
        return "corrupt_file", "The weights cannot be read: pull the model again with `gpux pull --force`."
    return "conversion", None


def _safetensors_error() -> type[BaseException]:
    """``safetensors.SafetensorError`` if the program imported safetensors; else a type that matches no exception."""
    found: type[BaseException] = getattr(sys.modules.get("safetensors"), "SafetensorError", _Never)
    return found


class _Never(BaseException):
    pass


def _line(exc: BaseException | None) -> str | None:
    """Type and message on one line, as the last line of a traceback has them."""
    if exc is None:
        return None
    text = " ".join(str(exc).split())
    return f"{type(exc).__name__}: {text[:1000]}" if text else type(exc).__name__


def serve(answer: Answer, prepare: Callable[[Request], None] | None = None) -> NoReturn:
    """Answer the one request of this process and end it: status 0 after a result, 1 after a failure.

    Args:
        answer: returns the values of the ``result`` event, or raises.
        prepare: called with the request before any thread is started and any library imported.
    """
    faulthandler.enable()
    events = Events()
    request = read_request()
    if prepare is not None:
        prepare(request)
    die_with_parent()
    status = 0
    try:
        events.result(**answer(request, events))
    except Exception as exc:  # noqa: BLE001 - the boundary of the process: every failure becomes an event
        traceback.print_exc()
        events.failure(**describe(exc))  # type: ignore[arg-type]  # mypy does not see which key has which type
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # skips the teardown of native libraries; the thread on standard input is still reading
