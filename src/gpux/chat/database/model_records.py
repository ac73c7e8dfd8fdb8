"""What chat providers said of their models."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

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
        now = datetime.now(UTC)
        rows = [
            {
                "provider": info.provider,
                "model_name": info.name,
                "display_name": info.display_name,
                "description": info.description,
                "capabilities": info.capabilities.to_dict(),
                "metadata": info.metadata.to_dict(),
                "updated_at": now,
            }
            for info in infos
        ]

        def work(connection: Connection) -> None:
            inserted = insert_into(connection, model_metadata)
            names = ("display_name", "description", "capabilities", "metadata", "updated_at")
            replaced = {name: inserted.excluded[name] for name in names}
            connection.execute(
                inserted.on_conflict_do_update(index_elements=["provider", "model_name"], set_=replaced), rows
            )

        if rows:
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
