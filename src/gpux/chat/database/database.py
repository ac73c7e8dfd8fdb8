"""The database, opened and migrated."""

from __future__ import annotations

from gpux.chat.database.address import Address, read_address
from gpux.chat.database.answers import Answers
from gpux.chat.database.connections import Connections, create_file
from gpux.chat.database.conversations import Conversations
from gpux.chat.database.export import to_json, to_markdown
from gpux.chat.database.failures import WAIT
from gpux.chat.database.images import Images
from gpux.chat.database.model_records import ModelRecords
from gpux.chat.database.provider_configs import ProviderConfigs
from gpux.chat.database.retention import Retention
from gpux.chat.database.schema import migrate, prepare
from gpux.chat.database.usage import Usage
from gpux.system.settings import Settings


class Database:
    """Conversations, statistics, models and configurations; used in one event loop. See :meth:`open`."""

    def __init__(self, connections: Connections, flush_ms: int) -> None:
        self._connections = connections
        self.conversations = Conversations(connections)
        self.answers = Answers(connections, flush_ms)
        self.images = Images(connections)
        self.usage = Usage(connections)
        self.metadata = ModelRecords(connections)
        self.provider_configs = ProviderConfigs(connections)
        self.retention = Retention(connections)

    @classmethod
    async def open(cls, url: str | None, settings: Settings, *, flush_ms: int = 250, wait: float = WAIT) -> Database:
        """Open a database; create or migrate its tables where that is needed.

        Args:
            url: ``sqlite:///path``, ``postgresql://…``, or None for ``conversations.db`` in gpux's folder.
            settings: they have that folder.
            flush_ms: milliseconds between two writes of answers in progress.
            wait: seconds to wait for another program that locks the database.

        Raises:
            UsageError: the URL is invalid.
            UnsupportedOperationError: the driver of PostgreSQL is not installed.
            SchemaVersionError: a newer version of gpux wrote the database.
            DatabaseError: it cannot be opened, or is another program's.
            DiskFullError: no space for it.
            NotWritableError: its folder cannot be written.
        """
        address = read_address(url, settings)
        create_file(address)
        connections = Connections(address, wait)
        try:
            await prepare(connections)
        except BaseException:
            await connections.aclose()
            raise
        return cls(connections, flush_ms)

    @staticmethod
    async def migrate(url: str | None, settings: Settings, revision: str) -> None:
        """Change the tables to a revision, also to an earlier one, for an older gpux; what it does not know is lost.

        Args:
            url: as of :meth:`open`.
            settings: as of :meth:`open`.
            revision: ``0001`` …

        Raises:
            UsageError: there is no such revision, or the URL is invalid.
            GpuxError: as :meth:`open`.
        """
        address = read_address(url, settings)
        create_file(address)
        connections = Connections(address)
        try:
            await migrate(connections, revision)
        finally:
            await connections.aclose()

    @property
    def address(self) -> Address:
        """Where it is."""
        return self._connections.address

    async def check(self) -> None:
        """Read from it, and look whether it can still be written, for health checks.

        Raises:
            DatabaseError: it cannot be read, or its file was removed.
        """
        self._connections.check_file()
        await self.conversations.count()

    async def export(self, id: str, password: str | None = None, *, owner: str | None = None) -> dict[str, object]:
        """A conversation with its messages and the data of their images, as JSON-able values.

        Raises:
            ConversationNotFoundError: the id is unknown.
            ConversationAccessError: the caller may not read it.
        """
        conversation = await self.conversations.get(id, password, owner=owner)
        messages = await self.conversations.messages(id)
        pictures = await self.images.of_messages([message.id for message in messages if message.has_images])
        return to_json(conversation, messages, pictures)

    async def export_markdown(self, id: str, password: str | None = None, *, owner: str | None = None) -> str:
        """A conversation for reading.

        Raises:
            ConversationNotFoundError: the id is unknown.
            ConversationAccessError: the caller may not read it.
        """
        conversation = await self.conversations.get(id, password, owner=owner)
        return to_markdown(conversation, await self.conversations.messages(id))

    async def aclose(self) -> None:
        """Write answers in progress, and close all connections."""
        try:
            await self.answers.aclose()
        finally:
            await self._connections.aclose()
