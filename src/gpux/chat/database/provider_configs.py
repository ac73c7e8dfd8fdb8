"""Configurations of chat providers, and their history."""

from __future__ import annotations

import builtins
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, select

from gpux.chat.database.connections import Connections, insert_into, lock_table
from gpux.chat.database.tables import provider_config_history, provider_configs
from gpux.chat.database.values import ProviderConfigVersion
from gpux.chat.values import ProviderConfig


class ProviderConfigs:
    """The configuration of each provider, and all earlier ones. Keys are not part of them, only where they are."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def put(self, config: ProviderConfig) -> ProviderConfigVersion:
        """Store a configuration as the next version; where nothing changed, the present one stays."""
        values = msgspec.structs.asdict(config) | {"default_models": list(config.default_models)}

        def work(connection: Connection) -> ProviderConfigVersion:
            lock_table(connection, provider_configs)  # where there is no row yet, none can be locked
            by_name = provider_configs.c.name == config.name
            present = connection.execute(select(provider_configs).where(by_name)).first()
            if present is not None and (known := _version(present)).config == config:
                return known
            of_it = provider_config_history.c.name == config.name
            newest = connection.execute(select(func.max(provider_config_history.c.version)).where(of_it)).scalar()
            stored = {**values, "version": (newest or 0) + 1, "updated_at": datetime.now(UTC)}
            inserted = insert_into(connection.dialect.name, provider_configs).values(stored)
            connection.execute(inserted.on_conflict_do_update(index_elements=["name"], set_=stored))
            connection.execute(insert(provider_config_history).values(stored))
            return ProviderConfigVersion(version=stored["version"], config=config, updated_at=stored["updated_at"])

        return await self._connections.write(work)

    async def list(self) -> list[ProviderConfigVersion]:
        """The present configuration of each provider, by priority."""
        statement = select(provider_configs).order_by(provider_configs.c.priority, provider_configs.c.name)
        rows = await self._connections.read(lambda connection: connection.execute(statement).all())
        return [_version(row) for row in rows]

    async def history(self, name: str) -> builtins.list[ProviderConfigVersion]:
        """All versions of a provider's configuration, the newest first."""
        columns = provider_config_history.c
        statement = select(provider_config_history).where(columns.name == name).order_by(columns.version.desc())
        rows = await self._connections.read(lambda connection: connection.execute(statement).all())
        return [_version(row) for row in rows]

    async def delete(self, name: str) -> None:
        """Forget the present configuration of a provider; its history stays."""
        statement = delete(provider_configs).where(provider_configs.c.name == name)
        await self._connections.write(lambda connection: connection.execute(statement))


def _version(row: Row[*tuple[Any, ...]]) -> ProviderConfigVersion:
    named = dict(row._mapping) | {"default_models": tuple(row.default_models)}
    config = ProviderConfig(**{name: named[name] for name in ProviderConfig.__struct_fields__})
    return ProviderConfigVersion(version=row.version, config=config, updated_at=row.updated_at)
