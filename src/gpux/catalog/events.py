"""The event log by which runs and pulls update the catalog, without waiting for its lock and without failing.

::

    catalogue.db
    catalogue.events/2026-01-31    one JSON object per line, in order of arrival

Recording an event appends one line and opens no database; the next process that opens the catalog applies the new
lines (:func:`apply_events`). The number of applied bytes per file is committed in the same transaction, so that each
line is applied exactly once even if a process is killed. A file is deleted two days after its day, when no process
appends to it any more. Nothing is recorded if the catalog does not exist.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gpux.errors import GpuxError
from gpux.system.events import Event, ModelOpened
from gpux.system.settings import Settings

if TYPE_CHECKING:  # the hot path of runs and pulls must not load the database
    import sqlite3

FILE = "catalogue.db"
_MAX_REASON = 500  #: characters


def default_path(settings: Settings) -> Path:
    """The catalog file of these settings."""
    return settings.home / FILE


def events_folder(catalog: Path) -> Path:
    """The folder of a catalog's pending events."""
    return catalog.with_suffix(".events")


def record_use(id: str, *, scheme: str = "hf", commit: str | None = None, settings: Settings | None = None) -> None:
    """Count one use of a model that was opened to run. Never fails; ignores models without a record.

    Args:
        id: canonical id, or an alias of the record.
        scheme: scheme of the manager.
        commit: commit of the opened model; if several records have the id, those at this commit are counted.
        settings: default: those of the environment.
    """
    _append({"event": "used", "scheme": scheme, "id": id, "commit": commit}, settings)


def record_status(
    id: str,
    status: Literal["pulled", "failed"],
    *,
    scheme: str = "hf",
    reason: str | None = None,
    settings: Settings | None = None,
) -> None:
    """Record how a pull ended. Never fails; ignores models without a record."""
    event = {"event": status, "scheme": scheme, "id": id, "reason": reason[:_MAX_REASON] if reason else None}
    _append(event, settings)


def follow(event: Event, settings: Settings | None) -> None:
    """Record an event of :mod:`gpux.system.events`; registered under the entry point group ``gpux.subscribers``."""
    if isinstance(event, ModelOpened):
        record_use(event.id, scheme=event.scheme, commit=event.commit, settings=settings)
    else:
        status: Literal["pulled", "failed"] = "failed" if event.error else "pulled"
        record_status(event.id, status, scheme=event.scheme, reason=event.error, settings=settings)


def _append(event: dict[str, Any], settings: Settings | None) -> None:
    with suppress(OSError, GpuxError, ValueError):  # a run must not fail because its use cannot be counted
        path = default_path(settings or _environment())
        if not path.exists():
            return
        now = time.gmtime()
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", now), **event}) + "\n"
        file = events_folder(path) / time.strftime("%Y-%m-%d", now)
        try:
            _write(file, line)
        except FileNotFoundError:
            file.parent.mkdir(mode=0o700, exist_ok=True)
            _write(file, line)


def _write(file: Path, line: str) -> None:
    """Append with one ``write`` call, which is atomic; mode 0600, as ids of private models are recorded."""
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def _environment() -> Settings:
    """Settings without a token: no request is sent, and finding the token may open the key store."""
    return Settings.from_env({**os.environ, "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"})


_REQUIRED = ("event", "scheme", "id", "time")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_COMPLETE = timedelta(days=2)  #: age at which a day's file is complete, whatever a machine's time zone and clock

_USED = "UPDATE records SET uses = uses + 1, last_used = max(coalesce(last_used, ''), :time), status = 'pulled', "
_USED += "reason = NULL WHERE "
_ENDED = "UPDATE records SET status = :event, reason = :reason WHERE "
_NAMED = "scheme = :scheme AND (id = :id OR EXISTS (SELECT 1 FROM json_each(aliases) WHERE value = :id))"
_AT_COMMIT = f"{_NAMED} AND commit_id = :commit"


def has_pending(folder: Path, applied: dict[str, int]) -> bool:
    """Whether there are events that were not applied yet."""
    return any(size > applied.get(path.name, 0) for path, size in _files(folder))


def apply_events(connection: sqlite3.Connection, folder: Path) -> list[Path]:
    """Apply all new events in the open transaction; returns the files to delete after its commit."""
    applied = applied_bytes(connection)
    finished = []
    for path, size in _files(folder):
        start = min(applied.get(path.name, 0), size)  # a power cut may have shortened the file
        stop = start
        with suppress(OSError):
            data = _read(path, start)
            whole = data[: data.rfind(b"\n") + 1]
            for event in _events(whole):
                _apply(connection, event)
            stop = start + len(whole)
        connection.execute("INSERT OR REPLACE INTO events (day, taken) VALUES (?, ?)", (path.name, stop))
        if _is_over(path.name):
            finished.append(path)
    gone = applied.keys() - {path.name for path, _ in _files(folder)}
    connection.executemany("DELETE FROM events WHERE day = ?", [(day,) for day in gone])
    return finished


def applied_bytes(connection: sqlite3.Connection) -> dict[str, int]:
    """Day -> bytes of its file that were applied."""
    return dict(connection.execute("SELECT day, taken FROM events"))


def _files(folder: Path) -> list[tuple[Path, int]]:
    """The event files with their sizes, the oldest first."""
    found = []
    with suppress(OSError):
        for path in sorted(folder.iterdir()):
            if _DAY.fullmatch(path.name):
                with suppress(OSError):
                    found.append((path, path.stat().st_size))
    return found


def _read(path: Path, start: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read()


def _events(data: bytes) -> Iterator[dict[str, Any]]:
    """Parse the lines; a line cut off by a full disk is skipped."""
    for line in data.splitlines():
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict) and all(isinstance(event.get(name), str) for name in _REQUIRED):
            yield {"commit": None, "reason": None, **event}


def _apply(connection: sqlite3.Connection, event: dict[str, Any]) -> None:
    values = {name: value if isinstance(value, str) else None for name, value in event.items()}
    if event["event"] == "used":
        done = connection.execute(_USED + _AT_COMMIT, values).rowcount if values["commit"] else 0
        if not done:
            connection.execute(_USED + _NAMED, values)
    elif event["event"] in ("pulled", "failed"):
        connection.execute(_ENDED + _NAMED, values)


def _is_over(day: str) -> bool:
    try:
        return date.fromisoformat(day) + _COMPLETE < datetime.now(UTC).date()
    except ValueError:
        return False
