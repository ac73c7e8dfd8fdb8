"""``GET /api/images/{imageId}``: a picture of a message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from gpux.chat.codes import error_document
from gpux.chat.service import chat_of
from gpux.errors import ConversationNotFoundError, GpuxError
from gpux.server.api.endpoint import Api, Call, Endpoint

#: The header with the password of a private conversation: addresses are logged.
PASSWORD = "x-conversation-password"  # noqa: S105 - its name


async def get_image(call: Call) -> Response:
    """The picture of this id; of a private conversation with its password in ``X-Conversation-Password``."""
    chat = await chat_of(call.core)
    id = call.path["id"]
    found = await chat.database.images.get(id)
    if found is None:
        raise ConversationNotFoundError(f"there is no image {id}", hint="Read the ids of the messages.")
    conversation, image = found
    owner = call.core.access.key_id(call.request)
    await chat.database.conversations.get(conversation, call.request.headers.get(PASSWORD), owner=owner)
    return Response(image.data, media_type=image.media_type, headers={"cache-control": "private, max-age=3600"})


def error_body(error: GpuxError, status: int) -> Mapping[str, Any]:
    """``{"error": …, "code": …}``, as the endpoints of streams."""
    return error_document(error)


API = Api(
    "chat-images",
    "/api/images",
    (Endpoint("GET", "/api/images/{id}", get_image, "read", summary="A picture of a message"),),
    error_body,
)
