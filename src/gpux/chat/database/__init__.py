"""Conversations, their answers, and what is known of chat providers, in SQLite or PostgreSQL.

:func:`open_database` opens it. The values (:mod:`gpux.chat.database.values`) need no library of the extra ``chat``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpux.errors import UnsupportedOperationError
from gpux.system.settings import Settings

if TYPE_CHECKING:
    from gpux.chat.database.database import Database


async def open_database(url: str | None, settings: Settings, *, flush_ms: int = 250) -> Database:
    """:meth:`~gpux.chat.database.database.Database.open`, with its libraries imported here.

    Raises:
        UnsupportedOperationError: they are not installed.
        GpuxError: as ``Database.open``.
    """
    return await _database().open(url, settings, flush_ms=flush_ms)


async def migrate_database(url: str | None, settings: Settings, revision: str) -> None:
    """:meth:`~gpux.chat.database.database.Database.migrate`, with its libraries imported here.

    Raises:
        UnsupportedOperationError: they are not installed.
        GpuxError: as ``Database.migrate``.
    """
    await _database().migrate(url, settings, revision)


def _database() -> type[Database]:
    try:
        from gpux.chat.database.database import Database  # deferred: the libraries are optional
    except ImportError as exc:
        raise UnsupportedOperationError(
            f"the database of conversations needs SQLAlchemy: {exc}", hint="pip install 'gpux[chat]'"
        ) from exc
    return Database
