"""Connections: many readers and, in SQLite, one writer at a time."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from gpux.chat.database.address import Address
from gpux.chat.database.failures import WAIT, database_errors, is_locked, locked
from gpux.errors import DatabaseError, UnsupportedOperationError
from gpux.system.disk import disk_errors

T = TypeVar("T")
#: What is done with a connection, in a transaction.
Work = Callable[[Connection], T]
_WRITES = "gpux_writes"


class Connections:
    """The connections to one database, of one event loop.

    Readers see the last committed state and wait for nobody. SQLite allows one writer: writers of this process wait for
    each other here, in their order, and for those of other processes up to ``wait`` seconds, twice that at most.
    """

    def __init__(self, address: Address, wait: float = WAIT) -> None:
        self.address = address
        self._wait = wait
        self._engine = _engine(address, wait)
        self._writing = self._engine.execution_options(**{_WRITES: True})
        self._writer = asyncio.Lock()
        self._file = _file(address)
        self._locked = float("-inf")  # when a writer last gave up to wait for another process
        self._running: set[asyncio.Task[Any]] = set()

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a file of SQLite."""
        return self.address.path is not None

    async def read(self, work: Work[T]) -> T:
        """Call ``work`` in a transaction that changes nothing.

        Raises:
            DatabaseError: the database cannot be read.
        """
        with database_errors(self.address, self._wait):
            async with self._engine.connect() as connection:
                return await connection.run_sync(work)

    async def write(self, work: Work[T]) -> T:
        """Call ``work`` in a transaction, which is committed unless it raises.

        A transaction that has begun is completed even where the caller is cancelled.

        Raises:
            DatabaseError: the database cannot be written.
            DiskFullError: no space.
        """
        task = asyncio.create_task(self._write(work))
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    async def _write(self, work: Work[T]) -> T:
        if not self.is_sqlite:
            return await self._transaction(work)
        asked = time.monotonic()
        async with self._writer:
            # Of the writers that wait here for one that finds the file locked, none waits for the lock on its own too.
            if self._locked > asked and time.monotonic() - asked >= self._wait:
                raise locked(self.address, self._wait)
            self.check_file()
            try:
                return await self._transaction(work)
            except DatabaseError as exc:
                if is_locked(exc):
                    self._locked = time.monotonic()
                raise

    async def _transaction(self, work: Work[T]) -> T:
        with database_errors(self.address, self._wait):
            async with self._writing.begin() as connection:
                return await connection.run_sync(work)

    def check_file(self) -> None:
        """Refuse to write to a file that was removed: what is written there is lost when it is closed.

        Raises:
            DatabaseError: the file was removed or replaced.
        """
        if _file(self.address) != self._file:
            raise DatabaseError(
                f"the database {self.address.shown} was removed or replaced while it was in use",
                hint="Restart gpux: it uses the file that is there now, or creates one.",
                database=self.address.shown,
            )

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # the caller may be gone; an error that nobody reads is not to be logged at the exit

    async def aclose(self) -> None:
        """Wait for writers, and close all connections."""
        while self._running:
            await asyncio.wait(self._running)
        await self._engine.dispose()


def _file(address: Address) -> tuple[int, int] | None:
    """What identifies the file; None: it is missing, or the database has no file."""
    try:
        found = address.path.stat() if address.path is not None else None
    except OSError:
        return None
    return None if found is None else (found.st_dev, found.st_ino)


def insert_into(connection: Connection, table: Table) -> Any:
    """An INSERT with ``on_conflict_do_update`` and ``on_conflict_do_nothing``, which both databases have."""
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


def lock_table(connection: Connection, table: Table) -> None:
    """Let no other transaction write the table before this one ends; SQLite's transactions of writers do that alone."""
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql(f"LOCK TABLE {table.name} IN SHARE ROW EXCLUSIVE MODE")


def create_file(address: Address) -> None:
    """Create the file of SQLite, readable for this user only: it has private conversations.

    Raises:
        DatabaseError: it is a folder.
        NotWritableError: its folder cannot be written.
        DiskFullError: no space.
    """
    path = address.path
    if path is None:
        return
    with disk_errors(path.parent):
        if path.is_dir():
            raise DatabaseError(f"the database {path} is a folder", hint="Name a file.", database=str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _engine(address: Address, wait: float) -> AsyncEngine:
    extra = "postgres" if address.path is None else "chat"
    try:
        return (_postgresql_engine if address.path is None else _sqlite_engine)(address, wait)
    except ImportError as exc:
        raise missing(extra, exc) from exc


def missing(extra: str, exc: ImportError) -> UnsupportedOperationError:
    """The error where a library of an extra is not installed."""
    return UnsupportedOperationError(
        f"the database of conversations needs a library that is missing: {exc}", hint=f"pip install 'gpux[{extra}]'"
    )


def _sqlite_engine(address: Address, wait: float) -> AsyncEngine:
    made = create_async_engine(address.url, pool_size=4, max_overflow=4, connect_args={"timeout": wait})
    event.listen(made.sync_engine, "connect", _prepare_sqlite)
    event.listen(made.sync_engine, "begin", _begin_sqlite)
    return made


def _postgresql_engine(address: Address, wait: float) -> AsyncEngine:
    limits = {"application_name": "gpux", "lock_timeout": f"{wait * 1000:.0f}"}
    return create_async_engine(
        address.url,
        pool_size=5,
        max_overflow=5,
        pool_timeout=2 * wait,
        pool_pre_ping=True,  # the server may have been restarted
        connect_args={"timeout": 10, "command_timeout": 60, "server_settings": limits},
    )


def _prepare_sqlite(connection: Any, record: object) -> None:
    """Begin transactions by statements of :func:`_begin_sqlite`, and set the options of the connection."""
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")  # readers and the writer do not wait for each other
    cursor.execute("PRAGMA synchronous = NORMAL")  # a power failure may lose the last transactions, a crash none
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    # A transaction that becomes a writer later fails at once where another one has written in between.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
