"""Everything of this room in one server: configuration, providers, conversations and what watches over them.

Libraries of the extra ``chat`` are imported when it opens: with the server where chat is configured, else at the first
request to one of its paths, so that a server without chats stays small.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from gpux.chat.configuration import ModelConfigurationService
from gpux.chat.lifecycle import Lifecycle
from gpux.chat.streams import Sessions
from gpux.chat.upkeep import Upkeep
from gpux.chat.values import ChatConfiguration
from gpux.errors import DatabaseError, GpuxError, OverloadedError, UnsupportedOperationError
from gpux.server.core import Core

if TYPE_CHECKING:
    from gpux.chat.database.database import Database
    from gpux.chat.providers.aggregator import ModelListAggregator
    from gpux.chat.providers.registry import ModelProviderRegistry
    from gpux.chat.providers.router import StreamMessageRouter

log = logging.getLogger(__name__)
#: Name of the part, and key of :attr:`Core.services`.
NAME = "chat"
#: Modules of the extra ``chat``.
_LIBRARIES = frozenset({"sqlalchemy", "alembic", "ariadne", "graphql", "watchfiles", "greenlet", "tomlkit"})
#: Seconds before a database that could not be opened is tried again.
AGAIN = 2.0


class ChatService:
    """The service of the part; :func:`chat_of` gives the opened one of a server. Used in one event loop.

    Args:
        core: of the server.
    """

    registry: ModelProviderRegistry
    router: StreamMessageRouter
    aggregator: ModelListAggregator

    def __init__(self, core: Core) -> None:
        self.core = core
        self.configuration = ModelConfigurationService(core.settings.gpux)
        self.sessions = Sessions(self)
        self.lifecycle = Lifecycle(self)
        self.upkeep = Upkeep(self)
        self._opening: asyncio.Task[None] | None = None
        self._opened = False
        self._database: Database | None = None
        self._database_error: GpuxError | None = None
        self._database_tried = float("-inf")
        self._database_opening = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it has opened."""
        return self._opened

    @property
    def database(self) -> Database:
        """The conversations.

        Raises:
            DatabaseError: the database cannot be opened; it is tried again with later requests.
        """
        if self._database is None:
            error = self._database_error or DatabaseError("the database of conversations is not open")
            raise type(error)(error.message, hint=error.hint, **error.details)
        return self._database

    # As a service of the server

    async def start(self) -> None:
        """Open in the background where chat is configured."""
        if self.configuration.configured:
            self._begin_opening().add_done_callback(_log_failure)

    def end_requests(self, error: GpuxError) -> None:
        """End answers that are in progress."""
        self.sessions.end(error)

    async def close(self) -> None:
        """End answers, and store their ends."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        stopping = OverloadedError("the server is stopping", hint="Send the message again when it has started again.")
        await self.sessions.close(stopping)
        await self._release()

    # Opening

    async def ready(self) -> None:
        """Open, unless it is open.

        Raises:
            ConfigurationError: the configuration is invalid, and no earlier one is kept.
            UnsupportedOperationError: the extra ``chat`` is not installed.
        """
        if not self._opened:
            await asyncio.shield(self._begin_opening())
        if self._database is None and time.monotonic() >= self._database_tried + AGAIN:
            await self._open_database()
            if self._database is not None:
                self.upkeep.changed()

    def _begin_opening(self) -> asyncio.Task[None]:
        if self._opening is None or (self._opening.done() and not self._opened):
            self._opening = asyncio.create_task(self._open())
        return self._opening

    async def _open(self) -> None:
        try:
            from gpux.chat.providers.aggregator import ModelListAggregator
            from gpux.chat.providers.registry import ModelProviderRegistry
            from gpux.chat.providers.router import StreamMessageRouter

            await self.configuration.load_configurations()
            current = self.configuration.current
            self.registry = await ModelProviderRegistry.open(current, self.core.settings.gpux, self.core)
        except ModuleNotFoundError as error:
            raise missing_library(error) from error
        self.core.pulls.cache_of = self.configuration.cache_of
        self.router = StreamMessageRouter(self.registry, self.configuration)
        self.aggregator = ModelListAggregator(self.registry)
        await self._open_database()
        self._following = asyncio.create_task(self._follow())
        self.lifecycle.start(current, **self._limits(current))
        self.upkeep.start()
        self._opened = True

    async def _open_database(self) -> None:
        """Open the database; without one, requests that need none are answered."""
        async with self._database_opening:
            if self._database is not None or time.monotonic() < self._database_tried + AGAIN:
                return
            self._database_tried = time.monotonic()
            current = self.configuration.current
            try:
                from gpux.chat.database.database import Database

                self._database = await Database.open(
                    current.database_url, self.core.settings.gpux, flush_ms=current.flush_ms
                )
            except ModuleNotFoundError as error:
                self._database_error = missing_library(error)
            except GpuxError as error:
                if self._database_error is None or self._database_error.message != error.message:
                    log.error("conversations are not stored: %s", error)  # noqa: TRY400 - its reason is known
                self._database_error = error

    async def _follow(self) -> None:
        try:
            await self.configuration.follow(self._changed)
        except ModuleNotFoundError as error:
            log.warning("changes of the configuration need a restart: %s", missing_library(error))
        except Exception:
            log.exception("changes of the configuration are not followed any more")

    async def _changed(self, old: ChatConfiguration, new: ChatConfiguration) -> None:
        await self.registry.reconfigure(old, new)
        self.lifecycle.reconfigure(new, **self._limits(new))
        self.upkeep.changed()
        if old.database_url != new.database_url:
            log.warning("another database is used after a restart of the server")

    def _limits(self, configuration: ChatConfiguration) -> dict[str, int | None]:
        """The limits that are configured; a default does not restrict the other APIs of the server."""
        sources = self.configuration.sources
        limits = [
            one.max_concurrent_models
            for one in configuration.providers.values()
            if (one.type or one.name) == "huggingface" and ("providers", one.name, "max_concurrent_models") in sources
        ]
        return {"models": min(limits, default=None), "memory": configuration.max_memory}

    async def _release(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await self.lifecycle.close()
        await self.upkeep.close()
        if hasattr(self, "registry"):
            await self.registry.aclose()
        database, self._database = self._database, None
        if database is not None:
            try:
                await database.aclose()
            except GpuxError as error:
                log.warning("the end of an answer could not be stored: %s", error)


async def chat_of(core: Core) -> ChatService:
    """The opened service of a server.

    Raises:
        UnsupportedOperationError: the server has no chats, or the extra ``chat`` is not installed.
        ConfigurationError: the configuration is invalid.
    """
    service = core.services.get(NAME)
    if not isinstance(service, ChatService):
        raise UnsupportedOperationError("this server has no chats", hint="Start it without --no-chat.")
    await service.ready()
    return service


def missing_library(error: ModuleNotFoundError) -> UnsupportedOperationError:
    """The error for a library that is not installed.

    Raises:
        ModuleNotFoundError: it is not one of the extra.
    """
    if (error.name or "").partition(".")[0] not in _LIBRARIES:
        raise error
    return UnsupportedOperationError(
        f"chats need {error.name}, which is not installed", hint="pip install 'gpux[chat]'"
    )


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        if isinstance(error, GpuxError):
            log.error("chats cannot be answered: %s", error)
        else:
            log.error("chats cannot be answered", exc_info=error)
