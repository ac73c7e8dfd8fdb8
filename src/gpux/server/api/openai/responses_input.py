"""The items of a conversation, as clients of ``/v1/responses`` send them, as the messages of a chat.

Items that a response had are sent back as they were, with fields that later releases add: those are not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from gpux.errors import UsageError
from gpux.server.api.openai.messages import (
    Assistant,
    CalledFunction,
    ChatMessage,
    Developer,
    MadeCall,
    System,
    Tool,
    User,
)
from gpux.server.api.openai.tools import Calls
from gpux.server.http import convert


class TextPart(msgspec.Struct, tag_field="type", tag="input_text"):
    """A text of a user or of instructions."""

    text: str


class OutputPart(msgspec.Struct, tag_field="type", tag="output_text"):
    """A text of an earlier answer."""

    text: str


class RefusalPart(msgspec.Struct, tag_field="type", tag="refusal"):
    """An earlier refusal."""

    refusal: str


class ReasoningPart(msgspec.Struct, tag_field="type", tag="reasoning_text"):
    """A part of the reasoning before an earlier answer."""

    text: str


class ImagePart(msgspec.Struct, tag_field="type", tag="input_image"):
    """A picture."""


class AudioPart(msgspec.Struct, tag_field="type", tag="input_audio"):
    """A sound."""


class FilePart(msgspec.Struct, tag_field="type", tag="input_file"):
    """A file."""


Part = TextPart | OutputPart | RefusalPart | ReasoningPart | ImagePart | AudioPart | FilePart


class MessageItem(msgspec.Struct, tag_field="type", tag="message"):
    """A turn; the type may be missing."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Part]


class CallItem(msgspec.Struct, tag_field="type", tag="function_call"):
    """A tool that the model called."""

    call_id: str
    name: str
    arguments: str


class OutputItem(msgspec.Struct, tag_field="type", tag="function_call_output"):
    """What the tool returned."""

    call_id: str
    output: str | list[Part]


class ReasoningItem(msgspec.Struct, tag_field="type", tag="reasoning"):
    """The reasoning before an answer."""

    content: list[Part] | None = None


Item = MessageItem | CallItem | OutputItem | ReasoningItem
_KINDS: dict[str, type[Item]] = {
    "message": MessageItem,
    "function_call": CallItem,
    "function_call_output": OutputItem,
    "reasoning": ReasoningItem,
}


def conversation(given: str | Sequence[Mapping[str, Any]], instructions: str | None) -> list[ChatMessage]:
    """The messages of an input.

    Instructions and a system message that follows are one message, since templates read one. Reasoning, an answer and
    the calls after it are one message of the assistant.

    Raises:
        UsageError: an item is of another type, or has no text, the arguments of a call are not an object, or a result
            has no call; ``param`` names it.
    """
    calls = Calls()
    items = [MessageItem("user", given)] if isinstance(given, str) else [_item(*one) for one in enumerate(given)]
    found: list[ChatMessage] = [] if instructions is None else [System(instructions)]
    thought: str | None = None
    for number, item in enumerate(items):
        place = f"input[{number}]"
        if isinstance(item, ReasoningItem):
            thought = _text(item.content or [], f"{place}.content") or None
        elif isinstance(item, CallItem):
            arguments = calls.made(item.call_id, item.arguments, f"{place}.arguments")
            call = MadeCall(CalledFunction(item.name, arguments), item.call_id)
            turn = found[-1] if found else None
            if not isinstance(turn, Assistant):
                turn = Assistant(reasoning_content=thought)
                found.append(turn)
            turn.tool_calls = [*(turn.tool_calls or ()), call]
            thought = None
        elif isinstance(item, OutputItem):
            calls.answered(item.call_id, f"{place}.call_id")
            found.append(Tool(_text(item.output, f"{place}.output"), item.call_id))
        else:
            text = _text(item.content, f"{place}.content")
            if item.role == "assistant":
                found.append(Assistant(text, reasoning_content=thought))
                thought = None
            elif item.role == "user":
                found.append(User(text))
            elif number == 0 and found:
                found[0] = System(f"{instructions}\n\n{text}")
            else:
                found.append(System(text) if item.role == "system" else Developer(text))
    return found


def _item(number: int, given: Mapping[str, Any]) -> Item:
    place = f"input[{number}]"
    kind = given.get("type", "message" if "role" in given else None)
    if not isinstance(kind, str) or kind not in _KINDS:
        hint = "Send its content: nothing is stored." if kind in (None, "item_reference") and "id" in given else None
        raise UsageError(
            f"{place} is of the type {kind if isinstance(kind, str) else 'of no item'}, which is not supported",
            hint=hint or f"Send items of the types {', '.join(_KINDS)}.",
            param=f"{place}.type",
        )
    return convert({**given, "type": kind}, _KINDS[kind], place)


def _text(content: str | Sequence[Part], place: str) -> str:
    if isinstance(content, str):
        return content
    texts = []
    for number, part in enumerate(content):
        if isinstance(part, RefusalPart):
            texts.append(part.refusal)
        elif isinstance(part, (ImagePart, AudioPart, FilePart)):
            raise UsageError(
                f"{place}[{number}] is of the type {part.__struct_config__.tag}, and this endpoint reads texts only",
                hint="Send the part as text.",
                param=f"{place}[{number}]",
            )
        else:
            texts.append(part.text)
    return "\n".join(texts)
