"""Errors of SQLite and PostgreSQL as gpux errors, mapped by their codes in one place."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoFreeConnectionError

from gpux.chat.database.address import Address
from gpux.errors import DatabaseError, DiskFullError, GpuxError
from gpux.system.disk import free_bytes

WAIT = 5.0  #: seconds to wait for a lock of another process
_NEAR_FULL = 1 << 20  #: bytes; an error of writing on a disk with less is caused by that
_LOCKED = "another program locked it for more than {:g} s"
_OTHER = "Name another database, or restore this one from a copy."
_REFUSED = "Make the file and its folder writable, or name another database."
#: Class or whole SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html) -> what happened, hint.
_STATES = {
    "25006": ("it is read-only", "Name the primary server of the database."),
    "28": ("it refuses the user or the password", "Correct the URL of the database, or set PGPASSWORD."),
    "3D": ("there is no such database", "Create it: createdb NAME"),
    "40": ("it ended the transaction in favor of another one", "Try again."),
    "42": ("its tables are not as gpux made them", _OTHER),
    "42501": ("the user may not do that", "GRANT ALL ON SCHEMA public TO the user of the URL."),
    "53300": ("it has too many connections", "Raise max_connections of the server, or close other programs."),
    "53": ("the server lacks memory or another resource", "Free it on the server, and try again."),
    "55P03": (_LOCKED, "Try again when other programs have finished."),
    "57": ("the server ended the request", "Try again when the server runs."),
    "08": ("the connection broke", "Try again when the server runs."),
}
_UNREACHABLE = "Start the server, or correct the URL of the database."


@contextmanager
def database_errors(address: Address, wait: float = WAIT) -> Iterator[None]:
    """Map the errors of a block that uses the database; gpux errors and faults of the program pass unchanged.

    ``wait`` is the number of seconds for which the connections wait for locks.

    Raises:
        DatabaseError: it is locked, read-only, damaged or not reachable.
        DiskFullError: there is no space for it.
    """
    try:
        yield
    except GpuxError:
        raise
    except Exception as exc:
        error = _typed(exc, address, wait)
        if error is None:
            raise
        raise error from exc


def locked(address: Address, wait: float) -> DatabaseError:
    """The error of a transaction that could not begin in time."""
    return _error(_LOCKED.format(wait), "Try again when other programs have finished.", address, reason="locked")


def is_locked(error: DatabaseError) -> bool:
    """Whether the error is that of :func:`locked`."""
    return error.details.get("reason") == "locked"


def _typed(exc: Exception, address: Address, wait: float) -> GpuxError | None:
    for cause in _causes(exc):
        if isinstance(cause, sqlite3.Error):
            return _of_sqlite(cause, address, wait)
        if isinstance(state := getattr(cause, "sqlstate", None), str):
            return _of_postgresql(cause, state, address, wait)
    if isinstance(exc, NoFreeConnectionError):
        return _error("all connections are in use", "Try again later.", address)
    if isinstance(exc, (OSError, InterfaceError, OperationalError)):
        return _error(f"it cannot be reached: {_line(exc)}", _UNREACHABLE, address)
    return None


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """The error, the driver's own errors behind it, and their causes."""
    found: BaseException | None = exc
    for _ in range(8):
        if found is None:
            return
        yield found
        found = getattr(found, "orig", None) or found.__cause__


def _of_sqlite(exc: sqlite3.Error, address: Address, wait: float) -> GpuxError | None:
    """By the primary result code (https://sqlite.org/rescode.html)."""
    code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return locked(address, wait)
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return _error(f"it cannot be opened or written: {exc}", _REFUSED, address)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        hint = "Move the file elsewhere; gpux then creates a new one."
        return _error(f"it is damaged, or not a database: {exc}", hint, address)
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _near_full(address)):
        return _full(exc, address)
    if code == sqlite3.SQLITE_IOERR:
        return _error(f"its disk fails: {exc}", _OTHER, address)
    if code == sqlite3.SQLITE_ERROR:
        return _error(f"its tables are not as gpux made them: {exc}", _OTHER, address)
    return None if code in (sqlite3.SQLITE_CONSTRAINT, 0) else _error(str(exc), _OTHER, address)


def _of_postgresql(exc: BaseException, state: str, address: Address, wait: float) -> GpuxError | None:
    if state == "53100":
        return _full(exc, address)
    for known in (state, state[:2]):
        if known in _STATES:
            what, hint = _STATES[known]
            return _error(f"{what.format(wait)}: {_line(exc)}", hint, address, sqlstate=state)
    return None if state[:2] in ("22", "23") else _error(_line(exc), _OTHER, address, sqlstate=state)


def _near_full(address: Address) -> bool:
    free = free_bytes(address.path.parent) if address.path else None
    return free is not None and free < _NEAR_FULL


def _full(exc: BaseException, address: Address) -> DiskFullError:
    free = free_bytes(address.path.parent) if address.path else None
    return DiskFullError(
        f"no space for the database {address.shown}: {_line(exc)}",
        hint="Free disk space, or delete conversations: gpux conversations delete --older-than 90",
        path=address.shown,
        free=free,
        needed=None,
    )


def _error(what: str, hint: str, address: Address, **details: str) -> DatabaseError:
    return DatabaseError(f"the database {address.shown}: {what}", hint=hint, database=address.shown, **details)


def _line(exc: BaseException) -> str:
    """The first line of the driver's message, without the statement and its values."""
    inner = getattr(exc, "orig", None) or exc
    return str(inner).partition("\n")[0] or type(inner).__name__
