"""Connections: many readers and, in SQLite, one writer at a time."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite

from gpux.chat.database.address import Address
from gpux.chat.database.failures import WAIT, database_errors, is_locked, locked
from gpux.errors import DatabaseError, UnsupportedOperationError
from gpux.system.disk import disk_errors

if TYPE_CHECKING:  # of the extra postgres
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")
#: What is done with a connection, in a transaction. It is called again where the transaction is not committed, so that
#: it changes nothing but the database.
Work = Callable[[Connection], T]
_WRITES = "gpux_writes"
#: Reads of a file at the same time.
_READERS = 4
#: Writes of a file that are committed together.
_MOST_TOGETHER = 100


class Connections:
    """The connections to one database, of one event loop.

    Readers see the last committed state and wait for nobody. SQLite allows one writer: writers of this process wait for
    each other here, in their order, and for those of other processes up to ``wait`` seconds, twice that at most.
    """

    def __init__(self, address: Address, wait: float = WAIT) -> None:
        self.address = address
        self._database: _Database = (_Server if address.path is None else _File)(address, wait)

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a file of SQLite."""
        return self.address.path is not None

    async def read(self, work: Work[T]) -> T:
        """Call ``work`` in a transaction that changes nothing.

        Raises:
            DatabaseError: the database cannot be read.
        """
        return await self._database.read(work)

    async def write(self, work: Work[T]) -> T:
        """Call ``work`` in a transaction, which is committed unless it raises.

        A write that was asked for is completed even where the caller is cancelled.

        Raises:
            DatabaseError: the database cannot be written.
            DiskFullError: no space.
        """
        return await self._database.write(work)

    def check_file(self) -> None:
        """Refuse to write to a file that was removed: what is written there is lost when it is closed.

        Raises:
            DatabaseError: the file was removed or replaced.
        """
        self._database.check()

    async def aclose(self) -> None:
        """Wait for writers, and close all connections."""
        await self._database.aclose()


class _Database(Protocol):
    """What both kinds of databases do; see :class:`Connections`."""

    async def read(self, work: Work[T]) -> T: ...

    async def write(self, work: Work[T]) -> T: ...

    def check(self) -> None: ...

    async def aclose(self) -> None: ...


class _Server:
    """A PostgreSQL server: each reader and each writer has a connection of its own."""

    def __init__(self, address: Address, wait: float) -> None:
        self._address, self._wait = address, wait
        try:
            self._engine = _postgresql_engine(address, wait)
        except ImportError as exc:
            raise missing("postgres", exc) from exc
        self._running: set[asyncio.Task[Any]] = set()

    async def read(self, work: Work[T]) -> T:
        with database_errors(self._address, self._wait):
            async with self._engine.connect() as connection:
                return await connection.run_sync(work)

    async def write(self, work: Work[T]) -> T:
        task = asyncio.create_task(self._write(work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(_read_error)
        return await asyncio.shield(task)

    async def _write(self, work: Work[T]) -> T:
        with database_errors(self._address, self._wait):
            async with self._engine.begin() as connection:
                return await connection.run_sync(work)

    def check(self) -> None:
        """It has no file."""

    async def aclose(self) -> None:
        while self._running:
            await asyncio.wait(self._running)
        await self._engine.dispose()


@dataclass(eq=False)
class _Write:
    """A write that waits for its turn, or has its outcome."""

    work: Work[Any]
    ended: asyncio.Future[Any]
    found: Any = None
    error: Exception | None = None


class _File:
    """A file of SQLite, used in threads: a transaction is one call to a thread, and not one for each of its statements.

    Writes that wait while others are written are then written together, by one transaction.
    """

    def __init__(self, address: Address, wait: float) -> None:
        self._address, self._wait = address, wait
        self._engine = _sqlite_engine(address, wait)
        self._writing = self._engine.execution_options(**{_WRITES: True})
        self._identity = _file(address)
        self._readers = ThreadPoolExecutor(_READERS, "gpux-database-read")
        self._writer = ThreadPoolExecutor(1, "gpux-database-write")
        self._waiting: deque[_Write] = deque()
        self._turns: asyncio.Task[None] | None = None

    async def read(self, work: Work[T]) -> T:
        def call() -> T:
            with database_errors(self._address, self._wait), self._engine.connect() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._readers, call)

    async def write(self, work: Work[T]) -> T:
        ended: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        ended.add_done_callback(_read_error)
        self._waiting.append(_Write(work, ended))
        if self._turns is None or self._turns.done():
            self._turns = asyncio.create_task(self._take_turns())
        return await asyncio.shield(ended)

    async def _take_turns(self) -> None:
        while self._waiting:
            together = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST_TOGETHER))]
            await asyncio.get_running_loop().run_in_executor(self._writer, self._write_all, together)
            for one in together:
                if one.error is None:
                    one.ended.set_result(one.found)
                else:
                    one.ended.set_exception(one.error)

    def _write_all(self, together: list[_Write]) -> None:
        """Write them, and set their outcomes. Where one fails, none is written, and each gets a transaction."""
        error = self._written(together)
        if error is None:
            return
        if len(together) == 1:
            together[0].error = error
            return
        for one in together:
            if not _is_locked(error):
                error = self._written([one])
            one.error = locked(self._address, self._wait) if _is_locked(error) else error

    def _written(self, together: list[_Write]) -> Exception | None:
        """Write some in one transaction; the error where it was not committed."""
        try:
            self.check()
            with database_errors(self._address, self._wait), self._writing.begin() as connection:
                for one in together:
                    one.found = one.work(connection)
        except Exception as error:  # noqa: BLE001 - raised where the write is awaited
            return error
        return None

    def check(self) -> None:
        if _file(self._address) != self._identity:
            shown = self._address.shown
            raise DatabaseError(
                f"the database {shown} was removed or replaced while it was in use",
                hint="Restart gpux: it uses the file that is there now, or creates one.",
                database=shown,
            )

    async def aclose(self) -> None:
        if self._turns is not None:
            await self._turns
        for threads in (self._readers, self._writer):
            await asyncio.to_thread(threads.shutdown)
        self._engine.dispose()


def _is_locked(error: Exception | None) -> bool:
    return isinstance(error, DatabaseError) and is_locked(error)


def _read_error(ended: asyncio.Future[Any]) -> None:
    """Read the error of a write whose caller may be gone; one that nobody reads is logged at the exit."""
    if not ended.cancelled():
        ended.exception()


def _file(address: Address) -> tuple[int, int] | None:
    """What identifies the file; None: it is missing, or the database has no file."""
    try:
        found = address.path.stat() if address.path is not None else None
    except OSError:
        return None
    return None if found is None else (found.st_dev, found.st_ino)


def insert_into(dialect: str, table: Table) -> Any:
    """An INSERT with ``on_conflict_do_update`` and ``on_conflict_do_nothing``, which both databases have."""
    return (sqlite if dialect == "sqlite" else postgresql).insert(table)


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


def missing(extra: str, exc: ImportError) -> UnsupportedOperationError:
    """The error where a library of an extra is not installed."""
    return UnsupportedOperationError(
        f"the database of conversations needs a library that is missing: {exc}", hint=f"pip install 'gpux[{extra}]'"
    )


def _sqlite_engine(address: Address, wait: float) -> Engine:
    options = {"timeout": wait, "check_same_thread": False}  # a connection of the pool serves one thread at a time
    made = create_engine(address.url, pool_size=_READERS + 1, connect_args=options)
    event.listen(made, "connect", _prepare_sqlite)
    event.listen(made, "begin", _begin_sqlite)
    return made


def _postgresql_engine(address: Address, wait: float) -> AsyncEngine:
    from sqlalchemy.ext.asyncio import create_async_engine  # deferred: it needs greenlet

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
