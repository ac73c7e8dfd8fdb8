"""Statistics of answers, by day, chat provider and model."""

from __future__ import annotations

from datetime import UTC, date, datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, select

from gpux.chat.database.connections import Connections, insert_into
from gpux.chat.database.tables import model_usage_stats
from gpux.chat.database.values import UsageStats

_KEY = ("provider", "model_name", "day")
_SUMS = (
    "requests",
    "failures",
    "prompt_tokens",
    "completion_tokens",
    "total_ms",
    "first_token_ms_sum",
    "first_tokens",
)


@cache
def _add(dialect: str) -> Any:
    """The statement that adds to the sums of a day, a provider and a model."""
    inserted = insert_into(dialect, model_usage_stats)
    added = {name: model_usage_stats.c[name] + inserted.excluded[name] for name in _SUMS}
    return inserted.on_conflict_do_update(index_elements=_KEY, set_=added)


class Usage:
    """Statistics of answers."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def record(
        self,
        provider: str,
        model_name: str,
        *,
        total_ms: float,
        failed: bool = False,
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        first_token_ms: float | None = None,
        day: date | None = None,
    ) -> None:
        """Count one answer.

        Args:
            provider: its name.
            model_name: with the provider's prefix.
            total_ms: from the request to the end of the answer.
            failed: it ended with an error.
            prompt_tokens: None: not known.
            completion_tokens: None: not known.
            first_token_ms: from the request to the first token; None: there was none.
            day: None: today, UTC.
        """
        sums = {
            "requests": 1,
            "failures": int(failed),
            "prompt_tokens": prompt_tokens or 0,
            "completion_tokens": completion_tokens or 0,
            "total_ms": round(total_ms),
            "first_token_ms_sum": round(first_token_ms or 0),
            "first_tokens": int(first_token_ms is not None),
        }
        key = {"provider": provider, "model_name": model_name, "day": day or datetime.now(UTC).date()}

        def work(connection: Connection) -> None:
            connection.execute(_add(connection.dialect.name), {**key, **sums})

        await self._connections.write(work)

    async def list(
        self,
        *,
        provider: str | None = None,
        model_name: str | None = None,
        since: date | None = None,
        until: date | None = None,
    ) -> list[UsageStats]:
        """The statistics, the last day first; None does not restrict, ``since`` and ``until`` are included."""
        columns = model_usage_stats.c
        statement = select(model_usage_stats).order_by(columns.day.desc(), columns.provider, columns.model_name)
        if provider is not None:
            statement = statement.where(columns.provider == provider)
        if model_name is not None:
            statement = statement.where(columns.model_name == model_name)
        if since is not None:
            statement = statement.where(columns.day >= since)
        if until is not None:
            statement = statement.where(columns.day <= until)
        rows = await self._connections.read(lambda connection: connection.execute(statement).all())
        return [UsageStats(**row._mapping) for row in rows]
