"""Progress events: frozen values with which a long call calls its callback. Nothing here prints.

A library call is silent unless ``progress=`` is given or it runs in a notebook. :mod:`gpux.system.progress_display`
and :mod:`gpux.system.progress_notebook` draw the events.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from gpux.model.info import ModelFile

INTERVAL = 0.05  #: least seconds between two byte events of one stage


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage of a pull has begun: ``resolve``, ``download``, ``convert``, ``prove``, ``store`` …"""

    kind: ClassVar[str] = "stage_started"
    stage: str
    message: str


@dataclass(frozen=True, slots=True)
class StageFinished:
    """A stage has ended; ``message`` has its result in a few words, empty after an error and for a part of a stage."""

    kind: ClassVar[str] = "stage_finished"
    stage: str
    message: str
    seconds: float


@dataclass(frozen=True, slots=True)
class BytesAdvanced:
    """``done`` of ``total`` bytes of a stage have arrived (``total`` 0: not known); ``file`` is the current one."""

    kind: ClassVar[str] = "bytes_advanced"
    stage: str
    done: int
    total: int
    file: str = ""


@dataclass(frozen=True, slots=True)
class Warned:
    """A warning; the call continues."""

    kind: ClassVar[str] = "warned"
    message: str


Event = StageStarted | StageFinished | BytesAdvanced | Warned
ProgressCallback = Callable[[Event], None]


def silent(event: Event) -> None:
    """The default callback: ignores the event."""


_waits: ContextVar[ProgressCallback] = ContextVar("gpux_waits", default=silent)


@contextmanager
def waits_reported(progress: ProgressCallback) -> Iterator[None]:
    """In the block, requests that take no progress callback report to ``progress`` that they wait for the Hub.

    A thread that the block starts reports only if it runs in a copy of the block's context.
    """
    before = _waits.set(progress)
    try:
        yield
    finally:
        _waits.reset(before)


def wait_listener() -> ProgressCallback:
    """Passes warnings to the callback of the :func:`waits_reported` around this call, and ignores other events."""
    listener = _waits.get()

    def warn(event: Event) -> None:
        if isinstance(event, Warned):
            listener(event)

    return warn


def event_to_dict(event: Event) -> dict[str, Any]:
    """The event as JSON-able values, with its ``kind``."""
    return {"kind": event.kind, **asdict(event)}


class ByteCounter:
    """Counts the bytes of several files that arrive in several threads, and reports at most every ``INTERVAL``."""

    def __init__(self, stage: str, files: Iterable[ModelFile], progress: ProgressCallback) -> None:
        self._stage = stage
        sizes = {file.path: file.size for file in files}
        self._total = 0 if None in sizes.values() else sum(size or 0 for size in sizes.values())
        self._done = dict.fromkeys(sizes, 0)
        self._progress = progress
        self._lock = threading.Lock()
        self._next = 0.0

    def advance(self, file: ModelFile, done: int) -> None:
        """Record that ``done`` bytes of the file have arrived; the event is emitted in the calling thread."""
        with self._lock:
            self._done[file.path] = done
            here, total = sum(self._done.values()), self._total
            now = time.monotonic()
            if now < self._next and (not total or here < total):
                return
            self._next = now + INTERVAL
            self._progress(BytesAdvanced(self._stage, here, total, file.path))

    def warn(self, event: Event) -> None:
        """Emit a warning, not at the same time as another event."""
        with self._lock:
            self._progress(event)


class Stages:
    """Reports the stages of a long call to a callback; the end of a stage has its duration."""

    def __init__(self, progress: ProgressCallback = silent) -> None:
        self.progress = progress

    @contextmanager
    def stage(self, name: str, message: str) -> Iterator[Callable[[str], None]]:
        """One stage; the block may call the function it receives with a message for the end of the stage."""
        words = [message]
        started = time.monotonic()
        self.progress(StageStarted(name, message))
        try:
            with self.waits():
                yield words.append
        except BaseException:
            self.progress(StageFinished(name, "", time.monotonic() - started))  # a display removes its line
            raise
        self.progress(StageFinished(name, words[-1], time.monotonic() - started))

    def waits(self) -> AbstractContextManager[None]:
        """Requests in the block report to the same callback that they wait for the Hub, unless it is silent."""
        return waits_reported(self.progress) if self.progress is not silent else nullcontext()

    def warn(self, message: str) -> None:
        """Emit a warning."""
        self.progress(Warned(message))
