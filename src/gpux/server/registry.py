"""The registered models of a server and how often each was used: one SQLite file in the home folder.

The table stands behind every list of registered models. Counters change by one statement each
(``usage_count = usage_count + 1``), so that processes that share the file lose no update, and each change is committed
before a request is answered, so that a killed server keeps it. The write-ahead log is used where the file system
supports it; elsewhere SQLite's rollback journal stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

from gpux.errors import (
    CorruptFileError,
    DiskFullError,
    GpuxError,
    NotWritableError,
    StorageError,
    UsageError,
)
from gpux.system.disk import disk_errors
from gpux.system.sqlite import Schema

log = logging.getLogger(__name__)

FILE = "server.db"  #: in the home folder
WAIT = 10.0  #: seconds to wait for another process that writes
SCHEMA = Schema(
    0x67707872,  # "gpxr"
    (
        (
            """CREATE TABLE models (
                number INTEGER PRIMARY KEY,
                model_id TEXT NOT NULL UNIQUE,
                name TEXT NOT NULL,
                model_type TEXT NOT NULL,
                description TEXT NOT NULL,
                parameters TEXT NOT NULL CHECK (json_valid(parameters)),
                added_date TEXT NOT NULL,
                last_used TEXT,
                usage_count INTEGER NOT NULL DEFAULT 0 CHECK (usage_count >= 0)
            )""",
            "CREATE TABLE changes (number INTEGER PRIMARY KEY CHECK (number = 1), at TEXT NOT NULL)",
        ),
    ),
)
_COLUMNS = "model_id, name, model_type, description, parameters, added_date, last_used, usage_count"
_SELECT = f"SELECT {_COLUMNS} FROM models"  # noqa: S608 - column names only
_HINT = f"Make GPUX_HOME and its file {FILE} writable, or set GPUX_HOME to another folder."
T = TypeVar("T")


@dataclass(frozen=True)
class Registered:
    """A registered model; times are ISO 8601 in UTC, with microseconds and without a zone."""

    model_id: str
    name: str
    model_type: str
    description: str
    parameters: Mapping[str, Any]  #: defaults of generation
    added_date: str
    last_used: str | None = None
    usage_count: int = 0


@dataclass(frozen=True)
class Contents:
    """All registered models, in the order in which they were added."""

    models: tuple[Registered, ...]
    changed: str  #: time of the last change, of a count too; now, if there was none


class Registry:
    """The table of registered models. Used in one event loop; a thread of its own runs the statements.

    The file is created at the first change; reading a registry that does not exist yet gives no models.

    Args:
        path: of the file; its folder is created with it.
        wait: seconds to wait for another process that writes.

    Every method raises:
        CorruptFileError: the file is damaged, or another program's database.
        StorageError: a later gpux wrote the file, or another process locks it for too long.
    and those that change something also:
        NotWritableError: no permission to write the file or its folder.
        DiskFullError: no space is left.
    """

    def __init__(self, path: Path, *, wait: float = WAIT) -> None:
        self.path = path
        self._wait = wait
        self._connection: sqlite3.Connection | None = None
        self._identity = (0, 0)  # of the file that is open
        self._thread: ThreadPoolExecutor | None = None

    async def contents(self) -> Contents:
        """All registered models."""
        return await self._run(_contents, reading=True) or Contents((), now())

    async def get(self, model_id: str) -> Registered | None:
        """The registered model of an id; None if it is not registered."""
        return await self._run(lambda connection: _found(connection, model_id), reading=True)

    async def add(
        self, model_id: str, name: str, model_type: str, description: str, parameters: Mapping[str, Any]
    ) -> Registered:
        """Register a model.

        Raises:
            UsageError: the id is registered.
        """

        def insert(connection: sqlite3.Connection) -> Registered:
            made = Registered(model_id, name, model_type, description, parameters, now())
            values = (model_id, name, model_type, description, _json(parameters), made.added_date)
            statement = (
                "INSERT INTO models (model_id, name, model_type, description, parameters, added_date) "
                "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (model_id) DO NOTHING"
            )
            if connection.execute(statement, values).rowcount == 0:
                raise UsageError(f"Model '{model_id}' already exists", model=model_id)
            return made

        return await self._run(insert)

    async def update(
        self,
        model_id: str,
        *,
        name: str | None = None,
        model_type: str | None = None,
        description: str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Registered | None:
        """Replace fields of a registered model, which is returned; None leaves a field as it is."""
        parameters_text = None if parameters is None else _json(parameters)

        def change(connection: sqlite3.Connection) -> Registered | None:
            connection.execute(
                "UPDATE models SET name = coalesce(?, name), model_type = coalesce(?, model_type), "
                "description = coalesce(?, description), parameters = coalesce(?, parameters) WHERE model_id = ?",
                (name, model_type, description, parameters_text, model_id),
            )
            return _found(connection, model_id)

        return await self._run(change)

    async def remove(self, model_id: str) -> bool:
        """Remove a model from the registry, not from the store; False if it was not registered."""

        def delete(connection: sqlite3.Connection) -> bool:
            return connection.execute("DELETE FROM models WHERE model_id = ?", (model_id,)).rowcount > 0

        return await self._run(delete)

    async def used(self, model_id: str) -> None:
        """Count one use; nothing is counted for a model that was removed meanwhile."""

        def count(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE models SET usage_count = usage_count + 1, last_used = ? WHERE model_id = ?", (now(), model_id)
            )

        await self._run(count)

    async def close(self) -> None:
        """Close the file. May be called twice; a later call opens it again."""
        if self._thread is None:
            return
        thread, self._thread = self._thread, None
        await asyncio.get_running_loop().run_in_executor(thread, self._disconnect)
        thread.shutdown(wait=False)

    @overload
    async def _run(self, work: Callable[[sqlite3.Connection], T], *, reading: Literal[True]) -> T | None: ...
    @overload
    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T: ...
    async def _run(self, work: Callable[[sqlite3.Connection], T], *, reading: bool = False) -> T | None:
        """Run ``work`` in the registry's thread, in a transaction; None without a file to read."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="registry")
        step = self._read if reading else self._write
        # shielded: a client that leaves must not end the wait for a statement that runs nevertheless
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, step, work))

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        with self._errors():
            connection = self._reader()
            if connection is None:
                return None
            with _transaction(connection, "DEFERRED"):
                return work(connection)

    def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._errors():
            connection = self._writer()
            with _transaction(connection):
                SCHEMA.upgrade(connection, self._version(connection))
                made = work(connection)
                connection.execute(
                    "INSERT INTO changes VALUES (1, ?) ON CONFLICT (number) DO UPDATE SET at = excluded.at", (now(),)
                )
                return made

    def _reader(self) -> sqlite3.Connection | None:
        """A connection to the current file; None if there is no file, or an empty one."""
        if not self.path.exists():
            self._disconnect()
            return None
        connection = self._connect()
        return connection if self._version(connection) == SCHEMA.version else None

    def _writer(self) -> sqlite3.Connection:
        if not self.path.exists():
            self._disconnect()
            try:
                with disk_errors(self.path.parent, hint=_HINT):
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            except StorageError as error:  # without the folder, since clients read the message
                raise type(error)(
                    f"the registry of models, {FILE} in GPUX_HOME, cannot be created", hint=error.hint
                ) from error
        return self._connect()

    def _connect(self) -> sqlite3.Connection:
        identity = (found := self.path.stat()).st_dev, found.st_ino
        if self._connection is not None and identity != self._identity:  # moved away, and made anew
            self._disconnect()
        if self._connection is None:
            writable = os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK)
            # a log of changes cannot be opened where nothing can be written, so the file is read as it is
            uri = self.path.absolute().as_uri() + ("?mode=rw" if writable else "?mode=ro&immutable=1")
            self._connection = connection = sqlite3.connect(uri, uri=True, timeout=self._wait, isolation_level=None)
            self._identity = identity
            self._version(connection)  # before the journal changes, since the file may be another program's
            if writable:
                with contextlib.suppress(sqlite3.OperationalError):  # a file system without shared memory
                    connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _version(self, connection: sqlite3.Connection) -> int:
        """The schema of the file; 0 for an empty file."""
        version = SCHEMA.version_of(connection)
        if version is None:
            raise CorruptFileError(
                f"the registry of models, {FILE} in GPUX_HOME, is another program's database",
                hint="Move the file elsewhere; the next model that is registered creates a new one.",
            )
        if version > SCHEMA.version:
            raise StorageError(
                f"the registry of models, {FILE} in GPUX_HOME, was written by a later gpux: it has schema {version}, "
                f"and this gpux reads up to {SCHEMA.version}",
                hint="Update gpux, or set GPUX_HOME to another folder.",
                schema=version,
            )
        return version

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
            raise  # a bug in gpux
        except sqlite3.Error as error:
            self._disconnect()
            typed = self._typed(error)
            log.error("%s: %s; %s %s", self.path, error, typed.message, typed.hint)  # noqa: TRY400 - the reason is in it
            raise typed from error
        except CorruptFileError as error:
            log.error("%s: %s %s", self.path, error.message, error.hint)  # noqa: TRY400 - the reason is in it
            raise

    def _typed(self, error: sqlite3.Error) -> GpuxError:
        """The typed error by SQLite's primary result code (https://sqlite.org/rescode.html)."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        what = f"the registry of models, {FILE} in GPUX_HOME,"
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return StorageError(
                f"{what} was locked by another process for more than {self._wait:g} s",
                hint="Send the request again when that process has finished.",
                retry_after=self._wait,
            )
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            return NotWritableError(f"{what} cannot be opened or written", hint=_HINT)
        if code == sqlite3.SQLITE_FULL:
            return DiskFullError(f"no space is left for {what[:-1]}", hint="Free disk space.")
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return CorruptFileError(
                f"{what} is damaged",
                hint="Stop the servers that use it and move the file elsewhere; the next model that is registered "
                "creates a new one.",
            )
        return StorageError(f"{what} cannot be used", hint="The server's log has the reason.")


def now() -> str:
    """The current time as the registry writes it: ``2025-06-26T21:45:00.000000``, UTC."""
    return iso(datetime.now(UTC).timestamp())


def iso(seconds: float) -> str:
    """A time in seconds since the epoch, as the registry writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _contents(connection: sqlite3.Connection) -> Contents:
    rows = connection.execute(f"{_SELECT} ORDER BY number").fetchall()
    changed = connection.execute("SELECT at FROM changes").fetchone()
    return Contents(tuple(_model(row) for row in rows), changed[0] if changed else now())


def _found(connection: sqlite3.Connection, model_id: str) -> Registered | None:
    row = connection.execute(f"{_SELECT} WHERE model_id = ?", (model_id,)).fetchone()
    return None if row is None else _model(row)


def _model(row: tuple[Any, ...]) -> Registered:
    values = list(row)
    values[4] = json.loads(values[4])
    return Registered(*values)


def _json(parameters: Mapping[str, Any]) -> str:
    return json.dumps(parameters)
