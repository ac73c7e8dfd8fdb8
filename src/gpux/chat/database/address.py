"""Where the database is: a file of SQLite, or a PostgreSQL server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from gpux.chat.values import DATABASE_FILE
from gpux.errors import UsageError
from gpux.system.settings import Settings

_HINT = "Use sqlite:///folder/file.db or postgresql://user@host:5432/name, or no URL for a file in gpux's folder."
#: Options of a PostgreSQL URL, as libpq writes them -> as asyncpg takes them.
_OPTIONS = {"host": "host", "port": "port", "sslmode": "ssl", "ssl": "ssl"}
_SSL = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


@dataclass(frozen=True)
class Address:
    """A database, checked."""

    url: URL  #: with the driver
    path: Path | None  #: the file, of SQLite
    shown: str  #: for messages: without the password


def read_address(url: str | None, settings: Settings) -> Address:
    """The address of the database.

    Args:
        url: ``sqlite:///path``, ``postgresql://…``, or None for ``conversations.db`` in gpux's folder.
        settings: they have that folder.

    Raises:
        UsageError: the URL is invalid, or of another kind of database. Its message has no password.
    """
    if url is None or not url.strip():
        return _sqlite(settings.home / DATABASE_FILE)
    try:
        found = make_url(url.strip())
    except (ArgumentError, ValueError) as exc:  # its message may have the password
        raise UsageError("the URL of the database is invalid", hint=_HINT, param="database") from exc
    kind = found.drivername.partition("+")[0]
    if kind == "sqlite" and found.drivername in ("sqlite", "sqlite+aiosqlite"):
        return _sqlite_url(found)
    if found.drivername in ("postgres", "postgresql", "postgresql+asyncpg"):
        return _postgresql(found)
    raise UsageError(f"gpux does not use databases of {found.drivername!r}", hint=_HINT, param="database")


def _sqlite(path: Path) -> Address:
    path = path.absolute()
    return Address(URL.create("sqlite+pysqlite", database=str(path)), path, str(path))


def _sqlite_url(url: URL) -> Address:
    if url.query or url.host or url.username or url.password:
        raise UsageError(
            "the URL of a SQLite file has a path only",
            hint="sqlite:///relative/file.db, sqlite:////absolute/file.db",
            param="database",
        )
    if not url.database or url.database == ":memory:" or url.database.startswith("file:") or "\0" in url.database:
        raise UsageError("a database of SQLite needs a file", hint="sqlite:///conversations.db", param="database")
    try:
        return _sqlite(Path(url.database).expanduser())
    except RuntimeError as exc:  # ~name, and there is no such user
        raise UsageError(f"the path of the database is invalid: {exc}", hint=_HINT, param="database") from exc


def _postgresql(url: URL) -> Address:
    shown = url.set(drivername="postgresql", query={}).render_as_string(hide_password=True)
    if not url.database:
        raise UsageError(f"{shown} names no database", hint="postgresql://user@host:5432/name", param="database")
    if unknown := sorted(set(url.query) - set(_OPTIONS)):
        raise UsageError(
            f"unknown options in the URL of the database: {', '.join(unknown)}",
            hint=f"Known: {', '.join(_OPTIONS)}.",
            param="database",
        )
    query = {_OPTIONS[name]: value for name, value in url.query.items()}
    if query.get("ssl", "prefer") not in _SSL:
        raise UsageError("sslmode of the database is unknown", hint=f"One of {', '.join(_SSL)}.", param="database")
    return Address(url.set(drivername="postgresql+asyncpg", query=query), None, shown)
