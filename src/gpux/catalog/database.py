"""The file of the catalog: SQLite, made when it is written first, one connection for each use.

With SQLite's rollback journal, and not its write-ahead log: the file stands alone, may be copied, and may lie on a
network file system; a process that dies leaves what was committed. Writers wait for one another.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from gpux.catalog.events import events_folder
from gpux.catalog.folding import already_taken, fold, pending
from gpux.errors import CorruptFileError, DiskFullError, NotWritableError, StorageError
from gpux.system.disk import disk_errors

WAIT = 30.0  #: seconds for other processes
APPLICATION = 0x67707578  #: "gpux", in the header of the file
_HINT = "Make the folder writable, or name another catalog."
#: What leads from each schema to the next; a schema that was released is never changed.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
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
)
SCHEMA = len(MIGRATIONS)


class Database:
    """The catalog's file at ``path``, which need not exist. Many threads and processes may use the same one."""

    def __init__(self, path: Path, wait: float = WAIT) -> None:
        self.path = path
        self._wait = wait

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """A connection to what is there, events of runs included; None where there is no catalog yet.

        Raises:
            CorruptFileError: the file is no catalog, or damaged.
            StorageError: it is of a later version of gpux, or another process holds it for too long.
        """
        if not self.path.exists():
            yield None
            return
        with suppress(NotWritableError):  # what cannot be written can be read; its events wait
            self._take_in()
        with self._errors(), closing(self._connect()) as connection:
            yield connection if self._version(connection) else None

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection within a transaction, which is committed if the block does not raise.

        Raises:
            NotWritableError: the folder or file refuses.
            DiskFullError: there is no room.
            CorruptFileError: the file is no catalog, or damaged.
            StorageError: it is of a later version of gpux, or another process holds it for too long.
        """
        self._make()
        with self._errors(), closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                self._upgrade(connection)
                finished = fold(connection, events_folder(self.path))
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        for file in finished:
            with suppress(OSError):
                file.unlink()

    def _take_in(self) -> None:
        """Events and former schemas, where there are any: else nothing is written."""
        with self._errors(), closing(self._connect()) as connection:
            version = self._version(connection)
            current = version == SCHEMA and not pending(events_folder(self.path), already_taken(connection))
        if version and not current:
            with self.writing():
                pass

    def _make(self) -> None:
        """An empty file that is its owner's alone: names of private models stand in it."""
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
        """The schema of the file; 0 for one that is empty."""
        (owner,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (objects,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if owner != APPLICATION and objects:
            raise CorruptFileError(f"{self.path} is another program's database", hint="Name another catalog.")
        if version > SCHEMA:
            message = f"{self.path} has schema {version}, and this gpux reads up to {SCHEMA}"
            raise StorageError(message, hint="Update gpux, or name another catalog.", schema=version)
        return int(version)

    def _upgrade(self, connection: sqlite3.Connection) -> None:
        version = self._version(connection)
        for step in MIGRATIONS[version:]:
            for statement in step:
                connection.execute(statement)
        if version < SCHEMA:
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {SCHEMA}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
            raise  # a mistake of gpux's own
        except sqlite3.Error as exc:
            raise self._typed(exc) from exc

    def _typed(self, exc: sqlite3.Error) -> StorageError:
        """By SQLite's primary result code (https://sqlite.org/rescode.html)."""
        code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
        path = str(self.path)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            hint = "Try again when the other process is done."
            return StorageError(f"{path} is in use by another process for more than {self._wait:g} s", hint=hint)
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            return NotWritableError(f"cannot open or write {path}: {exc}", hint=_HINT, path=path)
        if code == sqlite3.SQLITE_FULL:
            return DiskFullError(f"no room for {path}: {exc}", hint="Make room, or name another catalog.", path=path)
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            hint = "Move it away; `gpux import` makes a new one."
            return CorruptFileError(f"{path} is damaged, or no catalog: {exc}", hint=hint, path=path)
        return StorageError(f"{path}: {exc}", path=path)
