"""What the service keeps up in the database while it runs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from gpux.chat.database.database import Database
from gpux.chat.providers.registry import ModelLists
from gpux.chat.upkeep import Upkeep
from gpux.chat.values import ChatConfiguration, ModelCapabilities, ModelInfo, ProviderConfig
from gpux.errors import ProviderUnavailableError
from tests.chat.database.access import statement
from tests.chat.database.conftest import Using
from tests.waiting import until

DOWN = ProviderUnavailableError("it does not answer", hint="Start it.")


def info(name: str) -> ModelInfo:
    can = ModelCapabilities(supports_vision=False, supports_streaming=True)
    return ModelInfo(name=name, provider=name.partition(":")[0], display_name=name, capabilities=can)


@dataclass
class Configured:
    current: ChatConfiguration


@dataclass
class Lists:
    found: ModelLists

    async def lists(self) -> ModelLists:
        return self.found


@dataclass
class Service:
    """A service whose configuration and models a test may change."""

    database: Database
    configuration: Configured = field(default_factory=lambda: Configured(configured("a", "b")))
    aggregator: Lists = field(default_factory=lambda: Lists(ModelLists([info("a:1"), info("b:1")], {})))


def configured(*names: str, retention_days: int | None = None, priority: int = 100) -> ChatConfiguration:
    providers = {name: ProviderConfig(name=name, priority=priority) for name in names}
    return ChatConfiguration(providers=providers, retention_days=retention_days)


def test_old_conversations_are_deleted_as_configured(using: Using, url: str) -> None:
    async def test(database: Database) -> None:
        for id, days in (("old", 8), ("new", 6)):
            await database.conversations.create(id=id)
            then = f"{datetime.now(UTC) - timedelta(days=days):%Y-%m-%d %H:%M:%S.%f}"
            await statement(url, f"UPDATE conversations SET updated_at = '{then}' WHERE id = '{id}'")
        service = Service(database)
        await Upkeep(service).round()
        assert await database.conversations.count() == 2, "by default none is deleted"
        service.configuration.current = configured("a", retention_days=7)
        await Upkeep(service).round()
        assert [one.id for one in await database.conversations.list()] == ["new"]

    using(test)


def test_configurations_and_models_are_recorded(using: Using) -> None:
    async def test(database: Database) -> None:
        service = Service(database)
        upkeep = Upkeep(service)
        for _ in range(2):
            await upkeep.round()
        service.configuration.current = configured("a", priority=5)
        service.aggregator.found = ModelLists([info("a:2")], {})
        await upkeep.round()
        assert [one.config.name for one in await database.provider_configs.list()] == ["a"]
        history = await database.provider_configs.history("a")
        assert [(one.version, one.config.priority) for one in history] == [(2, 5), (1, 100)]
        assert [one.info.name for one in await database.metadata.list()] == ["a:2", "b:1"]
        service.aggregator.found = ModelLists([], {"a": DOWN})
        await upkeep.round()
        assert [one.info.name for one in await database.metadata.list(provider="a")] == ["a:2"], "it does not answer"

    using(test)


def test_a_change_begins_a_round_and_an_error_ends_nothing(using: Using) -> None:
    async def test(database: Database) -> None:
        service = Service(database)
        upkeep = Upkeep(service, interval=3600)
        broken = configured("a", retention_days=0)  # is refused by the database
        service.configuration.current = broken
        upkeep.start()
        await asyncio.sleep(0.05)
        service.configuration.current = configured("a", "b")
        upkeep.changed()

        async def are_stored() -> bool:
            return len(await database.metadata.list()) == 2

        await until(are_stored)
        await upkeep.close()
        await upkeep.close()

    using(test)
