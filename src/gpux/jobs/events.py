"""The file of a job's progress events: appended by the job, read by processes that follow it."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_args

from gpux.system.progress import BytesAdvanced, Event, event_to_dict

INTERVAL = 0.5  #: minimum seconds between two byte events of a stage; keeps the file below a few MB after hours
_TAIL = 64 * 1024  # bytes at the end of the file from which the current stage is read
_KINDS: dict[str, type[Any]] = {kind.kind: kind for kind in get_args(Event)}


@dataclass(frozen=True)
class Record:
    """An event and its time (UTC, ISO 8601)."""

    event: Event
    time: str
    label: str = ""  #: reference of the event, in a job of several models


class EventLog:
    """A callback for ``progress=`` and context manager that appends events to a file, from any thread.

    Events that cannot be written are dropped, so that a full disk does not end the job.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._lock = threading.Lock()
        self._next: dict[tuple[str, str], float] = {}  # label and stage -> when its next byte event is due
        self._torn = True  # the file may end in the middle of a line

    def __enter__(self) -> Self:
        with contextlib.suppress(OSError):
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            self._torn = os.fstat(self._file).st_size > 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            if self._file is not None:
                os.close(self._file)
            self._file = None

    def __call__(self, event: Event) -> None:
        """Append one event."""
        self.labelled("", event)

    def labelled(self, label: str, event: Event) -> None:
        """Append one event of a job of several models."""
        with self._lock:
            if self._file is not None and self._is_due(label, event):
                self._write(self._file, label, event)

    def _is_due(self, label: str, event: Event) -> bool:
        if not isinstance(event, BytesAdvanced):
            return True
        now, key = time.monotonic(), (label, event.stage)
        if now < self._next.get(key, now) and not (event.total and event.done >= event.total):
            return False
        self._next[key] = now + INTERVAL
        return True

    def _write(self, file: int, label: str, event: Event) -> None:
        labels = {"label": label} if label else {}
        document = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **labels, **event_to_dict(event)}
        line = b"\n" * self._torn + json.dumps(document).encode("ascii") + b"\n"
        with contextlib.suppress(OSError):
            self._torn = os.write(file, line) < len(line)  # one write call, so that lines never mix


class EventReader:
    """Reads the events appended since the last call; an incomplete line is left for the next call."""

    def __init__(self, path: Path, *, start: int = 0) -> None:
        self._path = path
        self._position = start

    def read(self) -> list[Record]:
        """The new events. Invalid lines (truncated, or of a newer version) are skipped.

        Raises:
            OSError: the file exists but cannot be read.
        """
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                found = file.read()
        except FileNotFoundError:  # no event yet
            return []
        whole = found[: found.rfind(b"\n") + 1]
        self._position += len(whole)
        return [record for line in whole.splitlines() if (record := _record(line)) is not None]


def last_records(path: Path) -> list[Record]:
    """The events in the last 64 KiB of the file."""
    try:
        size = path.stat().st_size
    except OSError:
        return []
    return EventReader(path, start=max(0, size - _TAIL)).read()  # a truncated first line is skipped


def without_outdated_counts(records: Iterable[Record]) -> Iterator[Record]:
    """The records without byte counts that are followed by a newer count of the same stage before any other event."""
    held: dict[tuple[str, str], Record] = {}
    for record in records:
        if isinstance(record.event, BytesAdvanced):
            held[record.label, record.event.stage] = record
            continue
        yield from held.values()
        held.clear()
        yield record
    yield from held.values()


def _record(line: bytes) -> Record | None:
    try:
        found = json.loads(line)
        kind = _KINDS[found["kind"]]
        values = {field.name: found[field.name] for field in fields(kind) if field.name in found}
        return Record(kind(**values), found["time"], found.get("label", ""))
    except (ValueError, KeyError, TypeError):
        return None
