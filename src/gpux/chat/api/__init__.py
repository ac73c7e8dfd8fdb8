"""The endpoints of chats, as a part of the server.

Imported at every start of a server, and therefore without the libraries of the extra ``chat``.
"""

from __future__ import annotations

from gpux.chat.api import configuration, graphql, health, images, stream_message
from gpux.chat.service import NAME, ChatService
from gpux.server.parts import Part

PART = Part(
    NAME,
    (stream_message.API, images.API, graphql.API, health.API, configuration.API),
    ChatService,
    requirement="gpux[chat]",
    libraries=("sqlalchemy", "alembic", "ariadne", "tomlkit", "watchfiles"),
)
