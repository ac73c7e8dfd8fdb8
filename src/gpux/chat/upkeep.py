"""What is kept up in the database while a server runs, beside the answers.

Old conversations are deleted, as ``retention_days`` says. Each configuration of a provider that comes into force is
recorded, and what providers say of their models: so that both are known after a restart, and while a provider does not
answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from gpux.chat.values import ChatConfiguration, ModelInfo
from gpux.errors import GpuxError

if TYPE_CHECKING:  # they import libraries that the start of a server does not need
    from gpux.chat.database.database import Database
    from gpux.chat.providers.registry import ModelLists

log = logging.getLogger(__name__)
INTERVAL = 3600.0  #: seconds between two rounds


class Configured(Protocol):
    """Where the configuration is."""

    @property
    def current(self) -> ChatConfiguration:
        """What is in force."""


class Lists(Protocol):
    """Where the models are."""

    async def lists(self) -> ModelLists:
        """The models of every provider that answers."""


class Chat(Protocol):
    """What the upkeep needs of the service."""

    @property
    def configuration(self) -> Configured:
        """What is configured."""

    @property
    def aggregator(self) -> Lists:
        """The models."""

    @property
    def database(self) -> Database:
        """The database.

        Raises:
            DatabaseError: it cannot be opened.
        """


class Upkeep:
    """A task of the service. Used in one event loop.

    Args:
        chat: the service.
        interval: seconds between two rounds.
    """

    def __init__(self, chat: Chat, interval: float = INTERVAL) -> None:
        self._chat, self._interval = chat, interval
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, with a round at once."""
        self._task = asyncio.create_task(self._run())

    def changed(self) -> None:
        """Begin a round now, since the configuration changed or the database was opened."""
        self._wanted.set()

    async def close(self) -> None:
        """End; may be called twice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._wanted.clear()
            try:
                await self.round()
            except GpuxError as error:
                log.warning("the upkeep of the database failed, and is tried again: %s", error)
            except Exception:
                log.exception("the upkeep of the database failed, and is tried again")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), self._interval)

    async def round(self) -> None:
        """Delete old conversations, and record what is in force.

        Raises:
            DatabaseError: the database cannot be written.
        """
        database, configuration = self._chat.database, self._chat.configuration.current
        if configuration.retention_days is not None:
            deleted = await database.retention.purge(configuration.retention_days)
            if deleted:
                log.info("%d conversations older than %d days were deleted", deleted, configuration.retention_days)
        await self._record_providers(database, configuration)
        await self._record_models(database)

    async def _record_providers(self, database: Database, configuration: ChatConfiguration) -> None:
        for known in await database.provider_configs.list():
            if known.config.name not in configuration.providers:
                await database.provider_configs.delete(known.config.name)
        for config in configuration.providers.values():
            await database.provider_configs.put(config)

    async def _record_models(self, database: Database) -> None:
        """Replace what is recorded of the providers that answer; of the others, it stays."""
        found = await self._chat.aggregator.lists()
        by_provider: dict[str, list[ModelInfo]] = defaultdict(list)
        for info in found.models:
            by_provider[info.provider].append(info)
        for name, config in self._chat.configuration.current.providers.items():
            if config.enabled and name not in found.errors:
                await database.metadata.replace(name, by_provider[name])
