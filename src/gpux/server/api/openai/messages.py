"""The messages of a chat: what a client may send, and what the model's chat template gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gpux.errors import UsageError


class TextPart(msgspec.Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """A part of a content."""

    text: str


class RefusalPart(msgspec.Struct, tag_field="type", tag="refusal", forbid_unknown_fields=True):
    """An earlier refusal of an assistant."""

    refusal: str


class ImagePart(msgspec.Struct, tag_field="type", tag="image_url"):
    """A picture."""


class AudioPart(msgspec.Struct, tag_field="type", tag="input_audio"):
    """A sound."""


class FilePart(msgspec.Struct, tag_field="type", tag="file"):
    """A file."""


Part = TextPart | RefusalPart | ImagePart | AudioPart | FilePart
Content = str | list[Part]


class System(msgspec.Struct, tag_field="role", tag="system", forbid_unknown_fields=True):
    """Instructions."""

    content: Content
    name: str | None = None


class Developer(msgspec.Struct, tag_field="role", tag="developer", forbid_unknown_fields=True):
    """Instructions; templates know them as ``system``."""

    content: Content
    name: str | None = None


class User(msgspec.Struct, tag_field="role", tag="user", forbid_unknown_fields=True):
    """A turn of the user."""

    content: Content
    name: str | None = None


class Assistant(msgspec.Struct, tag_field="role", tag="assistant", forbid_unknown_fields=True):
    """A turn of the model, as clients send an earlier answer back."""

    content: Content | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    reasoning_content: str | None = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None


class Tool(msgspec.Struct, tag_field="role", tag="tool", forbid_unknown_fields=True):
    """The result of a tool."""

    content: Content
    tool_call_id: str


ChatMessage = System | Developer | User | Assistant | Tool


def plain(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """The messages as a chat template takes them: dicts whose content is a text.

    Text parts are joined by line breaks, and ``developer`` becomes ``system``, since templates know no other name.

    Raises:
        UsageError: a part is not a text; ``param`` names it.
    """
    return [_plain(message, f"messages[{number}]") for number, message in enumerate(messages)]


def _plain(message: ChatMessage, place: str) -> dict[str, Any]:
    role = "system" if isinstance(message, Developer) else str(message.__struct_config__.tag)
    content = message.content
    if content is not None and not isinstance(content, str):
        content = "\n".join(_text(part, f"{place}.content[{number}]") for number, part in enumerate(content))
    if isinstance(message, Assistant):
        calls, refusal = message.tool_calls or None, message.refusal
        if content is None and calls is None and refusal is None:
            raise UsageError("a message of the assistant has no content", hint="Add it.", param=f"{place}.content")
        found: dict[str, Any] = {"role": role, "content": refusal if content is None and calls is None else content}
        more = {"name": message.name, "tool_calls": calls, "reasoning_content": message.reasoning_content}
    else:
        found = {"role": role, "content": content}
        more = {"tool_call_id": message.tool_call_id} if isinstance(message, Tool) else {"name": message.name}
    return found | {key: value for key, value in more.items() if value is not None}


def _text(part: Part, place: str) -> str:
    if isinstance(part, TextPart):
        return part.text
    if isinstance(part, RefusalPart):
        return part.refusal
    kind = part.__struct_config__.tag
    raise UsageError(
        f"{place} is of the type {kind}, and this endpoint reads texts only",
        hint="Send the part as text.",
        param=place,
    )
