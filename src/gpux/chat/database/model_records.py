"""What chat providers said of their models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, select

from gpux.chat.database.connections import Connections, insert_into
from gpux.chat.database.tables import model_metadata
from gpux.chat.database.values import ModelRecord
from gpux.chat.values import ModelCapabilities, ModelInfo, ModelMetadata


class ModelRecords:
    """Models by provider and name."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def put(self, infos: Iterable[ModelInfo]) -> None:
        """Store models, or replace what is stored of them."""
        rows = [_row(info) for info in infos]
        if rows:
            await self._connections.write(lambda connection: _put(connection, rows))

    async def replace(self, provider: str, infos: Iterable[ModelInfo]) -> None:
        """Store the models of a provider in place of all that are stored of it."""
        rows = [_row(info) for info in infos]
        names = [row["model_name"] for row in rows]

        def work(connection: Connection) -> None:
            stored = select(model_metadata.c.model_name).where(model_metadata.c.provider == provider)
            gone = set(connection.execute(stored).scalars()).difference(names)
            for name in gone:
                of_it = (model_metadata.c.provider == provider) & (model_metadata.c.model_name == name)
                connection.execute(delete(model_metadata).where(of_it))
            if rows:
                _put(connection, rows)

        await self._connections.write(work)

    async def delete(self, provider: str) -> int:
        """Delete what is stored of a provider's models; their number."""
        statement = delete(model_metadata).where(model_metadata.c.provider == provider)
        return await self._connections.write(lambda connection: int(connection.execute(statement).rowcount))

    async def list(self, *, provider: str | None = None) -> list[ModelRecord]:
        """The models of a provider, or of all, by provider and name."""
        columns = model_metadata.c
        statement = select(model_metadata).order_by(columns.provider, columns.model_name)
        if provider is not None:
            statement = statement.where(columns.provider == provider)
        rows = await self._connections.read(lambda connection: connection.execute(statement).all())
        return [
            ModelRecord(
                info=ModelInfo(
                    name=row.model_name,
                    provider=row.provider,
                    display_name=row.display_name,
                    description=row.description,
                    capabilities=msgspec.convert(row.capabilities, ModelCapabilities),
                    metadata=msgspec.convert(row._mapping["metadata"], ModelMetadata),
                ),
                updated_at=row.updated_at,
            )
            for row in rows
        ]


def _row(info: ModelInfo) -> dict[str, Any]:
    return {
        "provider": info.provider,
        "model_name": info.name,
        "display_name": info.display_name,
        "description": info.description,
        "capabilities": info.capabilities.to_dict(),
        "metadata": info.metadata.to_dict(),
        "updated_at": datetime.now(UTC),
    }


def _put(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    inserted = insert_into(connection.dialect.name, model_metadata)
    names = ("display_name", "description", "capabilities", "metadata", "updated_at")
    replaced = {name: inserted.excluded[name] for name in names}
    statement = inserted.on_conflict_do_update(index_elements=["provider", "model_name"], set_=replaced)
    connection.execute(statement, rows)
