"""Records as rows of the database and back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from gpux.catalog.record import FACTS, Facts, Record
from gpux.catalog.rules import SETTABLE, current_name, told
from gpux.model.values import to_jsonable

_PLAIN = ("reference", "scheme", "id", "revision", "file", "endpoint")
_LATER = ("added", "described", "status", "reason", "uses", "last_used")
_JSON = ("aliases", "told", "overrides", "unknown", "notes")
_LISTED = (*_PLAIN, "commit_id", *_JSON, "partial", *_LATER)
COLUMNS = (*_LISTED, "details")
SELECT = f"SELECT {', '.join(_LISTED)} FROM records"  # noqa: S608 - names of columns, nobody's input
SELECT_WHOLE = f"SELECT {', '.join(COLUMNS)} FROM records"  # noqa: S608
_INSERT = f"INSERT OR REPLACE INTO records ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608


def write(connection: sqlite3.Connection, record: Record) -> None:
    """Put a record in the place of the one that has its reference."""
    values: dict[str, Any] = {name: getattr(record, name) for name in (*_PLAIN, *_LATER)}
    values |= {name: _text(getattr(record, name)) for name in (*_JSON, "details")}
    values |= {"commit_id": record.commit, "partial": int(record.partial)}
    connection.execute(_INSERT, [_sound(values[name]) for name in COLUMNS])


def read(row: sqlite3.Row) -> Record:
    """The record of a row, with ``details`` where they were selected; values that cannot be are left out."""
    values = {name: json.loads(row[name]) for name in _JSON}
    overrides, facts = _valid(values["overrides"], SETTABLE), _valid(values["told"], FACTS)
    plain: dict[str, Any] = {name: row[name] for name in (*_PLAIN, *_LATER)}
    return Record(
        **plain,
        commit=row["commit_id"],
        aliases=_texts(values["aliases"]),
        told=Facts(**facts),
        overrides=overrides,
        unknown={name: str(why) for name, why in _mapping(values["unknown"]).items()},
        notes=_texts(values["notes"]),
        partial=bool(row["partial"]),
        details=_mapping(json.loads(row["details"])) if "details" in row.keys() else {},  # noqa: SIM118 - a Row is no mapping
    )


def _valid(values: Any, known: Sequence[str]) -> dict[str, Any]:
    current = {current_name(name): value for name, value in _mapping(values).items()}
    found = {name: told(name, value) for name, value in current.items() if name in known}
    return {name: value for name, value in found.items() if value is not None}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _text(value: Any) -> str:
    return json.dumps(to_jsonable(value), ensure_ascii=False)


def _sound(value: Any) -> Any:
    """Half a character, which JSON of a repository may hold, is no text that can be stored."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
