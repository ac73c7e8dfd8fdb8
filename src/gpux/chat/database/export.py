"""Conversations as JSON, and as Markdown for reading."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gpux.chat.database.values import Conversation, StoredMessage
from gpux.chat.values import Image

FORMAT = 1  #: of the JSON document
_FENCE = re.compile(r"^(#{1,6}) ", re.MULTILINE)


def to_json(
    conversation: Conversation, messages: Sequence[StoredMessage], images: Mapping[int, Sequence[Image]] | None = None
) -> dict[str, Any]:
    """A conversation as JSON-able values.

    Args:
        conversation: it.
        messages: all of it.
        images: their data by the message's id, which becomes base64; None leaves the data out.
    """
    return {
        "format": FORMAT,
        **conversation.to_dict(),
        "messages": [_message(message, (images or {}).get(message.id, ())) for message in messages],
    }


def _message(message: StoredMessage, images: Sequence[Image]) -> dict[str, Any]:
    found = message.to_dict()
    for described, image in zip(found["images"], images, strict=False):
        described["data"] = base64.b64encode(image.data).decode("ascii")
    return found


def to_markdown(conversation: Conversation, messages: Sequence[StoredMessage]) -> str:
    """A conversation for reading; headings in its messages are made smaller than its own."""
    title = " ".join(conversation.tab_name.split()) or conversation.id
    about = [f"* id: `{conversation.id}`", f"* created: {conversation.created_at:%Y-%m-%d %H:%M} UTC"]
    if conversation.llm_model:
        about.append(f"* model: `{conversation.llm_model}`")
    parts = [f"# {title}", "\n".join(about)]
    if conversation.system:
        parts += ["## System", _smaller(conversation.system)]
    for message in messages:
        parts += [_heading(message), _smaller(message.text)]
        parts += [f"(image {image.media_type}, {image.size} bytes)" for image in message.images]
    return "\n\n".join(part for part in parts if part) + "\n"


def _heading(message: StoredMessage) -> str:
    who = "User" if message.sender == "user" else f"Answer of `{message.llm_model}`" if message.llm_model else "Answer"
    cut = " (incomplete)" if message.partial else ""
    return f"## {who}{cut}, {message.created_at:%Y-%m-%d %H:%M:%S}"


def _smaller(text: str) -> str:
    return _FENCE.sub(lambda match: f"{'#' * min(6, len(match[1]) + 2)} ", text.strip())
