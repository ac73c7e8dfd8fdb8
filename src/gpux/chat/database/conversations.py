"""Conversations and their messages."""

from __future__ import annotations

import asyncio
import builtins
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from gpux.chat.database.connections import Connections, insert_into
from gpux.chat.database.passwords import Attempts, hash_password, is_password
from gpux.chat.database.tables import conversations, images, messages
from gpux.chat.database.values import Conversation, Sender, StoredImage, StoredMessage
from gpux.chat.values import Image
from gpux.errors import ConversationAccessError, ConversationNotFoundError, InputError, UsageError

_ID = re.compile(r"[^\x00-\x20\x7f\ud800-\udfff]{1,200}")
_LONGEST_TITLE = 500
_LARGEST = 2**63 - 1
_HASHES = 2  #: passwords that are hashed at the same time; each one takes 16 MB
_LISTED = [column for column in conversations.columns if column.name != "password_hash"]
_NOT_STORABLE = re.compile(r"[\x00\ud800-\udfff]")
_INSERT_MESSAGE = insert(messages).returning(messages)


class Conversations:
    """Conversations and their messages.

    :meth:`get` checks the password and the owner; the other methods take the id of a conversation that the caller may
    use.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._hashing = asyncio.Semaphore(_HASHES)
        self._attempts = Attempts()

    async def create(
        self,
        *,
        id: str | None = None,
        tab_name: str = "",
        llm_model: str | None = None,
        model_provider: str | None = None,
        system: str | None = None,
        password: str | None = None,
        owner: str | None = None,
    ) -> Conversation:
        """Create a conversation.

        Args:
            id: 1 to 200 characters without white space; None: a random one.
            tab_name: its title.
            llm_model: that answers, with the provider's prefix.
            model_provider: name of the chat provider that answers.
            system: the system message.
            password: makes it private.
            owner: id of the key that may use it; None: any.

        Raises:
            UsageError: an argument is invalid, or there is a conversation with this id.
            DatabaseError: the database cannot be written.
        """
        row = conversation_row(id, tab_name, llm_model, model_provider, system, owner)
        if password is not None:
            row |= {"is_private": True, "password_hash": await self._hashed(password)}
        await self._connections.write(lambda connection: insert_conversation(connection, row))
        return Conversation(**{name: value for name, value in row.items() if name != "password_hash"})

    async def get(self, id: str, password: str | None = None, *, owner: str | None = None) -> Conversation:
        """A conversation that the caller may use.

        Args:
            id: its id.
            password: needed for a private one.
            owner: id of the caller's key; None: no key is needed, and owners are not compared.

        Raises:
            ConversationNotFoundError: the id is unknown.
            ConversationAccessError: it is private and the password is missing or wrong, or another key's.
            TooManyAttemptsError: 20 passwords were wrong within a minute.
        """

        def work(connection: Connection) -> tuple[Conversation, str | None] | None:
            statement = select(*_LISTED, conversations.c.password_hash, _count()).where(conversations.c.id == id)
            row = connection.execute(statement).first() if _ID.fullmatch(id) else None
            return None if row is None else (_conversation(row), row.password_hash)

        found = await self._connections.read(work)
        if found is None:
            raise _not_found(id)
        conversation, hashed = found
        if owner is not None and conversation.owner not in (None, owner):
            raise ConversationAccessError(
                f"the conversation {id!r} belongs to another key", hint="Use the key that created it."
            )
        if hashed is not None and not await self._opens(id, password, hashed):
            raise ConversationAccessError(
                f"the conversation {id!r} is private, and the password is {'wrong' if password else 'missing'}",
                hint="Send the password of the conversation.",
            )
        return conversation

    async def _hashed(self, password: str) -> str:
        async with self._hashing:
            return await asyncio.to_thread(hash_password, password)

    async def _opens(self, id: str, password: str | None, hashed: str) -> bool:
        if not password:
            return False
        async with self._hashing:
            self._attempts.check(id)  # here, since many may wait for their turn
            right = await asyncio.to_thread(is_password, password, hashed)
            if not right:
                self._attempts.note(id)
            return right

    async def list(self, *, owner: str | None = None, limit: int | None = None, offset: int = 0) -> list[Conversation]:
        """The conversations, the last changed first; private ones too, with their title and without system message.

        Args:
            owner: id of the caller's key: other keys' conversations are left out; None: all.
            limit: at most that many; None: all.
            offset: of the first one.
        """
        statement = select(*_LISTED, _count()).order_by(conversations.c.updated_at.desc(), conversations.c.id)
        if owner is not None:
            statement = statement.where(conversations.c.owner.is_(None) | (conversations.c.owner == owner))
        statement = statement.limit(limit).offset(offset) if limit is not None or offset else statement
        rows = await self._connections.read(lambda connection: connection.execute(statement).all())
        found = [_conversation(row) for row in rows]
        return [msgspec.structs.replace(one, system=None) if one.is_private else one for one in found]

    async def count(self, *, owner: str | None = None) -> int:
        """The number of conversations that :meth:`list` has."""
        statement = select(func.count()).select_from(conversations)
        if owner is not None:
            statement = statement.where(conversations.c.owner.is_(None) | (conversations.c.owner == owner))
        return await self._connections.read(lambda connection: int(connection.execute(statement).scalar_one()))

    async def update(
        self,
        id: str,
        *,
        tab_name: str | None = None,
        llm_model: str | None = None,
        model_provider: str | None = None,
        system: str | None = None,
    ) -> None:
        """Change what is not None.

        Raises:
            UsageError: a value is invalid.
            ConversationNotFoundError: the id is unknown.
        """
        given = {
            "tab_name": None if tab_name is None else _checked_title(tab_name),
            "llm_model": _storable("llm_model", llm_model),
            "model_provider": _storable("model_provider", model_provider),
            "system": _storable("system", system),
        }
        values = {name: value for name, value in given.items() if value is not None}
        await self._connections.write(lambda connection: touch(connection, id, values))

    async def delete(self, id: str) -> None:
        """Delete a conversation with its messages and images; an answer in progress is not stored any more.

        Raises:
            ConversationNotFoundError: the id is unknown.
        """

        def work(connection: Connection) -> None:
            if not connection.execute(delete(conversations).where(conversations.c.id == id)).rowcount:
                raise _not_found(id)

        await self._connections.write(work)

    async def messages(self, id: str, *, limit: int | None = None) -> builtins.list[StoredMessage]:
        """The messages in their order, answers in progress included.

        Args:
            id: of the conversation; an unknown one has no messages.
            limit: only the last ones; None: all.
        """
        statement = select(messages).where(messages.c.conversation_id == id).order_by(messages.c.id.desc())

        def work(connection: Connection) -> builtins.list[StoredMessage]:
            rows = connection.execute(statement.limit(limit)).all()[::-1]
            return with_images(connection, rows)

        return await self._connections.read(work)

    async def add_message(
        self,
        conversation_id: str,
        text: str,
        *,
        sender: Sender = "user",
        images: Sequence[Image] = (),
        llm_model: str | None = None,
        model_provider: str | None = None,
    ) -> StoredMessage:
        """Append a whole message; answers that arrive in pieces are :class:`~gpux.chat.database.answers.Answers`.

        Raises:
            InputError: the text has NUL or a half of a surrogate pair, which no database stores.
            ConversationNotFoundError: there is no such conversation.
        """
        values = {
            "conversation_id": conversation_id,
            "text": checked_text(text),
            "sender": sender,
            "llm_model": _storable("llm_model", llm_model),
            "model_provider": _storable("model_provider", model_provider),
            "has_images": bool(images),
        }
        return await self._connections.write(lambda connection: append_message(connection, values, images))

    async def delete_message(self, conversation_id: str, message_id: int) -> None:
        """Delete one message, as an answer in whose place there is another one.

        Raises:
            ConversationNotFoundError: the conversation has no such message.
        """
        of_it = (messages.c.conversation_id == conversation_id) & (messages.c.id == message_id)

        def work(connection: Connection) -> None:
            if not 0 < message_id <= _LARGEST or not connection.execute(delete(messages).where(of_it)).rowcount:
                raise _no_message(conversation_id, message_id)
            touch(connection, conversation_id)

        await self._connections.write(work)

    async def delete_messages_after(self, conversation_id: str, message_id: int, *, inclusive: bool = False) -> int:
        """Delete the messages after one, to answer it again; the number of those that were deleted.

        Args:
            conversation_id: of the message.
            message_id: the last one that is kept.
            inclusive: delete that one too.

        Raises:
            ConversationNotFoundError: the conversation has no such message.
        """
        of_it = messages.c.conversation_id == conversation_id
        later = messages.c.id >= message_id if inclusive else messages.c.id > message_id

        def work(connection: Connection) -> int:
            known = select(messages.c.id).where(of_it, messages.c.id == message_id)
            if not 0 < message_id <= _LARGEST or connection.execute(known).first() is None:
                raise _no_message(conversation_id, message_id)
            touch(connection, conversation_id)
            return int(connection.execute(delete(messages).where(of_it, later)).rowcount)

        return await self._connections.write(work)


def touch(connection: Connection, id: str, values: dict[str, Any] | None = None) -> None:
    """Set the time of the last change, and other columns.

    Raises:
        ConversationNotFoundError: there is no such conversation.
    """
    changed = {**(values or {}), "updated_at": datetime.now(UTC)}
    done = connection.execute(update(conversations).where(conversations.c.id == id).values(changed))
    if not done.rowcount:
        raise _not_found(id)


def conversation_row(
    id: str | None,
    tab_name: str,
    llm_model: str | None,
    model_provider: str | None,
    system: str | None,
    owner: str | None,
) -> dict[str, Any]:
    """The columns of a new conversation without a password.

    Raises:
        UsageError: a value is invalid.
    """
    now = datetime.now(UTC)
    return {
        "id": secrets.token_hex(12) if id is None else _checked_id(id),
        "tab_name": _checked_title(tab_name),
        "llm_model": _storable("llm_model", llm_model),
        "model_provider": _storable("model_provider", model_provider),
        "system": _storable("system", system),
        "owner": owner,
        "is_private": False,
        "password_hash": None,
        "created_at": now,
        "updated_at": now,
    }


def insert_conversation(connection: Connection, row: dict[str, Any]) -> None:
    """Insert a conversation.

    Raises:
        UsageError: there is one with this id.
    """
    inserted = insert_into(connection.dialect.name, conversations).values(row).on_conflict_do_nothing()
    if not connection.execute(inserted).rowcount:
        raise UsageError(f"there is a conversation {row['id']!r}", hint="Choose another id.", param="id")


def append_message(
    connection: Connection, values: dict[str, Any], pictures: Sequence[Image] = (), *, touched: bool = False
) -> StoredMessage:
    """Insert a message at the end of its conversation.

    Args:
        connection: with a transaction.
        values: columns of the message.
        pictures: of the message.
        touched: the transaction has changed the conversation before.

    Raises:
        ConversationNotFoundError: there is no such conversation.
    """
    if not touched:
        touch(connection, values["conversation_id"])  # locks it, so that its messages have the order of their ids
    now = datetime.now(UTC)
    row = connection.execute(_INSERT_MESSAGE, {**values, "created_at": now}).one()
    if pictures:
        stored = [
            {
                "id": secrets.token_urlsafe(16),
                "message_id": row.id,
                "position": place,
                "media_type": picture.media_type,
                "size": len(picture.data),
                "data": picture.data,
            }
            for place, picture in enumerate(pictures)
        ]
        connection.execute(insert(images), stored)
    (message,) = with_images(connection, [row])
    return message


def with_images(connection: Connection, rows: Sequence[Row[*tuple[Any, ...]]]) -> list[StoredMessage]:
    """Rows of ``messages`` with their images."""
    having = [row.id for row in rows if row.has_images]
    found: dict[int, list[StoredImage]] = {id: [] for id in having}
    if having:
        columns = (images.c.message_id, images.c.id, images.c.media_type, images.c.size)
        of_these = images.c.message_id.between(min(having), max(having))  # a list would have a limit
        ordered = select(*columns).where(of_these).order_by(images.c.message_id, images.c.position)
        for row in connection.execute(ordered):
            if row.message_id in found:
                found[row.message_id].append(StoredImage(id=row.id, media_type=row.media_type, size=row.size))
    return [StoredMessage(**row._mapping, images=tuple(found.get(row.id, ()))) for row in rows]


def checked_text(text: str) -> str:
    """The text of a message.

    Raises:
        InputError: it has characters that no database stores.
    """
    if (wrong := _NOT_STORABLE.search(text)) is not None:
        raise InputError(
            f"the message has the character U+{ord(wrong[0]):04X} at {wrong.start()}, which cannot be stored",
            hint="Remove it from the message.",
        )
    return text


def storable(text: str) -> str:
    """A piece of an answer, with U+FFFD in place of characters that no database stores."""
    return _NOT_STORABLE.sub("\ufffd", text)


def _conversation(row: Row[*tuple[Any, ...]]) -> Conversation:
    named = row._mapping
    return Conversation(**{name: named[name] for name in Conversation.__struct_fields__})


def _count() -> Any:
    counted = select(func.count()).where(messages.c.conversation_id == conversations.c.id)
    return counted.scalar_subquery().label("message_count")


def _not_found(id: str) -> ConversationNotFoundError:
    return ConversationNotFoundError(f"there is no conversation {id!r}", hint="gpux conversations list")


def _no_message(conversation_id: str, message_id: int) -> ConversationNotFoundError:
    return ConversationNotFoundError(
        f"the conversation {conversation_id!r} has no message {message_id}", hint="Read the ids of its messages."
    )


def _checked_id(id: str) -> str:
    if not _ID.fullmatch(id):
        raise UsageError("the id of a conversation has 1 to 200 characters without white space", param="id")
    return id


def _checked_title(title: str) -> str:
    if len(title) > _LONGEST_TITLE or _NOT_STORABLE.search(title):
        raise UsageError(f"the title of a conversation has at most {_LONGEST_TITLE} characters", param="tab_name")
    return title


def _storable(name: str, value: str | None) -> str | None:
    if value is not None and _NOT_STORABLE.search(value):
        raise UsageError(f"{name} has characters that cannot be stored", param=name)
    return value
