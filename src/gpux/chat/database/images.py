"""The data of images of messages."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select

from gpux.chat.database.connections import Connections
from gpux.chat.database.tables import images, messages
from gpux.chat.values import Image


class Images:
    """Images of messages; they are stored with their message and deleted with it."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def get(self, id: str) -> tuple[str, Image] | None:
        """The id of the conversation that an image is part of, and the image; None: the id is unknown.

        The caller checks that the conversation may be read.
        """
        wanted = (
            select(messages.c.conversation_id, images.c.media_type, images.c.data)
            .join(messages, messages.c.id == images.c.message_id)
            .where(images.c.id == id)
        )

        def work(connection: Connection) -> tuple[str, Image] | None:
            row = connection.execute(wanted).first() if "\x00" not in id else None
            return None if row is None else (row.conversation_id, Image(data=row.data, media_type=row.media_type))

        return await self._connections.read(work)

    async def of_messages(self, ids: Sequence[int]) -> dict[int, list[Image]]:
        """The images of messages, by the message's id; those without images are left out."""

        def work(connection: Connection) -> dict[int, list[Image]]:
            found: dict[int, list[Image]] = {}
            for id in ids:
                of_it = images.c.message_id == id
                rows = connection.execute(select(images).where(of_it).order_by(images.c.position)).all()
                if rows:
                    found[id] = [Image(data=row.data, media_type=row.media_type) for row in rows]
            return found

        return await self._connections.read(work)
