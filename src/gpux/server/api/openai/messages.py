"""The messages of a chat: what a client may send, and what the model's chat template gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from gpux.errors import UsageError
from gpux.server.api.openai.tools import Calls


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


class CalledFunction(msgspec.Struct):
    """``tool_calls[].function``; some clients send the arguments as an object."""

    name: str
    arguments: str | dict[str, Any] = "{}"


class MadeCall(msgspec.Struct):
    """One of ``tool_calls``; further fields of clients are not read."""

    function: CalledFunction
    id: str | None = None
    type: Literal["function"] = "function"


class Assistant(msgspec.Struct, tag_field="role", tag="assistant", forbid_unknown_fields=True):
    """A turn of the model, as clients send an earlier answer back."""

    content: Content | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[MadeCall] | None = None
    reasoning_content: str | None = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None


class Tool(msgspec.Struct, tag_field="role", tag="tool", forbid_unknown_fields=True):
    """The result of a tool."""

    content: Content
    tool_call_id: str
    name: str | None = None  #: of the tool, which clients send besides


ChatMessage = System | Developer | User | Assistant | Tool


def plain(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """The messages as a chat template takes them: dicts whose content is a text.

    Text parts are joined by line breaks, and ``developer`` becomes ``system``, since templates know no other name.

    Raises:
        UsageError: a part is not a text, the arguments of a call are not an object, or a result has no call; ``param``
            names it.
    """
    calls = Calls()
    return [_plain(message, f"messages[{number}]", calls) for number, message in enumerate(messages)]


def _plain(message: ChatMessage, place: str, calls: Calls) -> dict[str, Any]:
    role = "system" if isinstance(message, Developer) else str(message.__struct_config__.tag)
    content = message.content
    if content is not None and not isinstance(content, str):
        content = "\n".join(_text(part, f"{place}.content[{number}]") for number, part in enumerate(content))
    if isinstance(message, Assistant):
        made = _made(message.tool_calls or (), f"{place}.tool_calls", calls)
        if content is None and made is None and message.refusal is None:
            raise UsageError("a message of the assistant has no content", hint="Add it.", param=f"{place}.content")
        found: dict[str, Any] = {
            "role": role,
            "content": message.refusal if content is None and made is None else content,
        }
        more = {"name": message.name, "tool_calls": made, "reasoning_content": message.reasoning_content}
    elif isinstance(message, Tool):
        calls.answered(message.tool_call_id, f"{place}.tool_call_id")
        more = {"tool_call_id": message.tool_call_id, "name": message.name}
        found = {"role": role, "content": content}
    else:
        found, more = {"role": role, "content": content}, {"name": message.name}
    return found | {key: value for key, value in more.items() if value is not None}


def _made(given: Sequence[MadeCall], place: str, calls: Calls) -> list[dict[str, Any]] | None:
    found = []
    for number, one in enumerate(given):
        arguments = calls.made(one.id, one.function.arguments, f"{place}[{number}].function.arguments")
        id = {} if one.id is None else {"id": one.id}
        found.append({**id, "type": "function", "function": {"name": one.function.name, "arguments": arguments}})
    return found or None


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
