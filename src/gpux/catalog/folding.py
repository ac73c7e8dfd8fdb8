"""Taking events into the catalog: each line once, also where a process dies between any two steps.

How far a file was taken in is written in the same transaction as what its lines say. A file is deleted when its day is
long over, so that nobody appends to it any more.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

_NEEDED = ("event", "scheme", "id", "time")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_OVER = timedelta(days=2)  #: after which a day's file is complete, whatever the clock of a machine says

_USED = "UPDATE records SET uses = uses + 1, last_used = max(coalesce(last_used, ''), :time), status = 'pulled', "
_USED += "reason = NULL WHERE "
_ENDED = "UPDATE records SET status = :event, reason = :reason WHERE "
_NAMED = "scheme = :scheme AND (id = :id OR EXISTS (SELECT 1 FROM json_each(aliases) WHERE value = :id))"
_AT_COMMIT = f"{_NAMED} AND commit_id = :commit"


def pending(folder: Path, taken: dict[str, int]) -> bool:
    """Whether there are events that were not taken in yet."""
    return any(size > taken.get(path.name, 0) for path, size in _files(folder))


def fold(connection: sqlite3.Connection, folder: Path) -> list[Path]:
    """Take all events in, within the transaction that is open; files that may go once it is committed."""
    taken = already_taken(connection)
    finished = []
    for path, size in _files(folder):
        start = min(taken.get(path.name, 0), size)  # a power cut may have shortened the file
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
    gone = taken.keys() - {path.name for path, _ in _files(folder)}
    connection.executemany("DELETE FROM events WHERE day = ?", [(day,) for day in gone])
    return finished


def already_taken(connection: sqlite3.Connection) -> dict[str, int]:
    """Day -> bytes of its file that were taken in."""
    return dict(connection.execute("SELECT day, taken FROM events"))


def _files(folder: Path) -> list[tuple[Path, int]]:
    """Events' files with their sizes, the oldest first."""
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
    """The lines that are events; what a full disk tore is passed over."""
    for line in data.splitlines():
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict) and all(isinstance(event.get(name), str) for name in _NEEDED):
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
        return date.fromisoformat(day) + _OVER < datetime.now(UTC).date()
    except ValueError:
        return False
