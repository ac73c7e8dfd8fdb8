"""The SQLite file of the catalog: created at the first write, one connection per operation, records as rows.

It uses SQLite's rollback journal instead of the write-ahead log, so that the catalog is a single file, which may be
copied and may be on a network file system. A killed process loses only its open transaction. Writers wait for one
another.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from gpux.catalog.events import applied_bytes, apply_events, events_folder, has_pending
from gpux.catalog.record import FACTS, Facts, Record
from gpux.catalog.rules import SETTABLE, current_name, reported
from gpux.errors import CorruptFileError, DiskFullError, NotWritableError, StorageError
from gpux.model.values import to_jsonable
from gpux.system.disk import disk_errors
from gpux.system.sqlite import Schema

WAIT = 30.0  #: seconds to wait for other processes
_HINT = "Make the folder writable, or name another catalog."
SCHEMA = Schema(
    0x67707578,  # "gpux"
    (
        (
            """CREATE TABLE records (
                reference TEXT PRIMARY KEY NOT NULL,
                scheme TEXT NOT NULL,
                id TEXT NOT NULL,
                revision TEXT,
                file TEXT,
                endpoint TEXT,
                commit_id TEXT NOT NULL,
                aliases TEXT NOT NULL CHECK (json_valid(aliases)),
                told TEXT NOT NULL CHECK (json_valid(told)),
                overrides TEXT NOT NULL CHECK (json_valid(overrides)),
                unknown TEXT NOT NULL CHECK (json_valid(unknown)),
                notes TEXT NOT NULL CHECK (json_valid(notes)),
                partial INTEGER NOT NULL CHECK (partial IN (0, 1)),
                added TEXT NOT NULL,
                described TEXT NOT NULL,
                status TEXT NOT NULL CHECK (status IN ('new', 'pulled', 'failed', 'gone')),
                reason TEXT,
                uses INTEGER NOT NULL CHECK (uses >= 0),
                last_used TEXT,
                details TEXT NOT NULL CHECK (json_valid(details))
            )""",
            "CREATE INDEX records_by_id ON records (scheme, id)",
            "CREATE TABLE events (day TEXT PRIMARY KEY NOT NULL, taken INTEGER NOT NULL)",
        ),
    ),
)


class Database:
    """The catalog file at ``path``, which may not exist yet. Threads and processes may share it."""

    def __init__(self, path: Path, wait: float = WAIT) -> None:
        self.path = path
        self._wait = wait

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """A connection for reading, after pending events were applied; None if the catalog does not exist yet.

        Raises:
            CorruptFileError: the file is not a catalog, or is damaged.
            StorageError: a later version of gpux wrote the file, or another process locks it for too long.
        """
        if not self.path.exists():
            yield None
            return
        with suppress(NotWritableError):  # a read-only catalog can be read; its events wait
            self._apply_pending()
        with self._errors(), closing(self._connect()) as connection:
            yield connection if self._version(connection) else None

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection in a transaction, which is committed unless the block raises.

        Raises:
            NotWritableError: no permission to write the folder or file.
            DiskFullError: no space is left.
            CorruptFileError: the file is not a catalog, or is damaged.
            StorageError: a later version of gpux wrote the file, or another process locks it for too long.
        """
        self._create()
        with self._errors(), closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                SCHEMA.upgrade(connection, self._version(connection))
                finished = apply_events(connection, events_folder(self.path))
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        for file in finished:
            with suppress(OSError):
                file.unlink()

    def _apply_pending(self) -> None:
        """Apply pending events and migrations; writes nothing if there are none."""
        with self._errors(), closing(self._connect()) as connection:
            version = self._version(connection)
            current = version == SCHEMA.version and not has_pending(events_folder(self.path), applied_bytes(connection))
        if version and not current:
            with self.writing():
                pass

    def _create(self) -> None:
        """Create the file with mode 0600: it may contain names of private models."""
        if self.path.is_dir():
            raise NotWritableError(f"{self.path} is a folder", hint="Name a file.", path=str(self.path))
        with disk_errors(self.path.parent, hint=_HINT):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))

    def _connect(self) -> sqlite3.Connection:
        uri = self.path.absolute().as_uri() + "?mode=rw"
        connection = sqlite3.connect(uri, uri=True, timeout=self._wait, isolation_level=None)
        connection.row_factory = sqlite3.Row
        return connection

    def _version(self, connection: sqlite3.Connection) -> int:
        """The schema version of the file; 0 for an empty file."""
        version = SCHEMA.version_of(connection)
        if version is None:
            raise CorruptFileError(f"{self.path} is another program's database", hint="Name another catalog.")
        if version > SCHEMA.version:
            message = f"{self.path} has schema {version}, and this gpux reads up to {SCHEMA.version}"
            raise StorageError(message, hint="Update gpux, or name another catalog.", schema=version)
        return version

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
            raise  # a bug in gpux
        except sqlite3.Error as exc:
            raise self._typed(exc) from exc

    def _typed(self, exc: sqlite3.Error) -> StorageError:
        """Map a SQLite error by its primary result code (https://sqlite.org/rescode.html)."""
        code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
        path = str(self.path)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            hint = "Try again when the other process has finished."
            return StorageError(f"{path} was locked by another process for more than {self._wait:g} s", hint=hint)
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            return NotWritableError(f"cannot open or write {path}: {exc}", hint=_HINT, path=path)
        if code == sqlite3.SQLITE_FULL:
            return DiskFullError(
                f"no space left for {path}: {exc}", hint="Free disk space, or name another catalog.", path=path
            )
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            hint = "Move the file elsewhere; `gpux import` creates a new catalog."
            return CorruptFileError(f"{path} is damaged or not a catalog: {exc}", hint=hint, path=path)
        return StorageError(f"{path}: {exc}", path=path)


_PLAIN = ("reference", "scheme", "id", "revision", "file", "endpoint")
_LATER = ("added", "described", "status", "reason", "uses", "last_used")
#: The column of :attr:`Record.reported`, named as in the first schema: a read-only catalog cannot be migrated.
_REPORTED = "told"
_JSON = ("aliases", _REPORTED, "overrides", "unknown", "notes")
_LISTED = (*_PLAIN, "commit_id", *_JSON, "partial", *_LATER)
COLUMNS = (*_LISTED, "details")
SELECT = f"SELECT {', '.join(_LISTED)} FROM records"  # noqa: S608 - column names only
SELECT_WITH_DETAILS = f"SELECT {', '.join(COLUMNS)} FROM records"  # noqa: S608
_INSERT = f"INSERT OR REPLACE INTO records ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608


def write_row(connection: sqlite3.Connection, record: Record) -> None:
    """Insert a record, or replace the record of the same reference."""
    values: dict[str, Any] = {name: getattr(record, name) for name in (*_PLAIN, *_LATER)}
    values |= {name: _text(getattr(record, "reported" if name == _REPORTED else name)) for name in (*_JSON, "details")}
    values |= {"commit_id": record.commit, "partial": int(record.partial)}
    connection.execute(_INSERT, [_encodable(values[name]) for name in COLUMNS])


def read_row(row: sqlite3.Row) -> Record:
    """The record of a row, with ``details`` if they were selected; invalid values are omitted."""
    values = {name: json.loads(row[name]) for name in _JSON}
    overrides, facts = _valid(values["overrides"], SETTABLE), _valid(values[_REPORTED], FACTS)
    plain: dict[str, Any] = {name: row[name] for name in (*_PLAIN, *_LATER)}
    return Record(
        **plain,
        commit=row["commit_id"],
        aliases=_texts(values["aliases"]),
        reported=Facts(**facts),
        overrides=overrides,
        unknown={current_name(name): str(why) for name, why in _mapping(values["unknown"]).items()},
        notes=_texts(values["notes"]),
        partial=bool(row["partial"]),
        details=_mapping(json.loads(row["details"])) if "details" in row.keys() else {},  # noqa: SIM118 - a Row is not a mapping
    )


def _valid(values: Any, known: Sequence[str]) -> dict[str, Any]:
    current = {current_name(name): value for name, value in _mapping(values).items()}
    found = {name: reported(name, value) for name, value in current.items() if name in known}
    return {name: value for name, value in found.items() if value is not None}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _text(value: Any) -> str:
    return json.dumps(to_jsonable(value), ensure_ascii=False)


def _encodable(value: Any) -> Any:
    """Replace lone surrogates, which JSON of a repository may contain and SQLite cannot store."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
