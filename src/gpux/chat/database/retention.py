"""Deletion of old conversations."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, func, select

from gpux.chat.database.connections import Connections
from gpux.chat.database.tables import conversations
from gpux.errors import UsageError

_MOST_DAYS = 36_500


class Retention:
    """Deletes conversations without new messages."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def purge(self, days: int) -> int:
        """Delete conversations that did not change for ``days`` days; their number.

        Raises:
            UsageError: ``days`` is not between 1 and 36500.
        """
        statement = delete(conversations).where(conversations.c.updated_at < before(days))
        return await self._connections.write(lambda connection: int(connection.execute(statement).rowcount))

    async def count(self, days: int) -> int:
        """The number of conversations that :meth:`purge` would delete.

        Raises:
            UsageError: as :meth:`purge`.
        """
        statement = select(func.count()).where(conversations.c.updated_at < before(days))
        return await self._connections.read(lambda connection: int(connection.execute(statement).scalar_one()))


def before(days: int) -> datetime:
    """The time before which the last change was more than ``days`` days ago.

    Raises:
        UsageError: ``days`` is not between 1 and 36500.
    """
    if not 1 <= days <= _MOST_DAYS:
        raise UsageError(f"days is {days}, and must be between 1 and {_MOST_DAYS}", param="days")
    return datetime.now(UTC) - timedelta(days=days)
