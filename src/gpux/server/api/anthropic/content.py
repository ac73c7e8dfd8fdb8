"""The messages of Anthropic's API, as the messages of a chat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from gpux.errors import UsageError
from gpux.server.api.openai.messages import Assistant, CalledFunction, ChatMessage, MadeCall, System, Tool, User
from gpux.server.api.openai.tools import Calls


class TextBlock(msgspec.Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """A text."""

    text: str
    cache_control: Any = None  #: prompts that begin alike are found without it
    citations: Any = None


class ThinkingBlock(msgspec.Struct, tag_field="type", tag="thinking", forbid_unknown_fields=True):
    """The reasoning before an earlier answer."""

    thinking: str
    signature: str | None = None


class RedactedBlock(msgspec.Struct, tag_field="type", tag="redacted_thinking", forbid_unknown_fields=True):
    """Reasoning of another server, which only that server can read."""

    data: str


class ToolUseBlock(msgspec.Struct, tag_field="type", tag="tool_use", forbid_unknown_fields=True):
    """A tool that the model called."""

    id: str
    name: str
    input: dict[str, Any]
    cache_control: Any = None
    caller: Any = None


class ImageBlock(msgspec.Struct, tag_field="type", tag="image"):
    """A picture."""


class DocumentBlock(msgspec.Struct, tag_field="type", tag="document"):
    """A document."""


class SearchBlock(msgspec.Struct, tag_field="type", tag="search_result"):
    """A text that was found."""


class ToolResultBlock(msgspec.Struct, tag_field="type", tag="tool_result", forbid_unknown_fields=True):
    """What the tool returned."""

    tool_use_id: str
    content: str | list[TextBlock | ImageBlock | DocumentBlock | SearchBlock] | None = None
    is_error: bool | None = None
    cache_control: Any = None


Block = (
    TextBlock
    | ThinkingBlock
    | RedactedBlock
    | ToolUseBlock
    | ToolResultBlock
    | ImageBlock
    | DocumentBlock
    | SearchBlock
)


class InputMessage(msgspec.Struct, forbid_unknown_fields=True):
    """A turn."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


def conversation(system: str | Sequence[TextBlock] | None, messages: Sequence[InputMessage]) -> list[ChatMessage]:
    """The messages of a chat.

    The texts of a message are joined by line breaks. Results of tools are messages of their own, before the text of
    their turn.

    Raises:
        UsageError: a block is not a text, or a result has no call; the message names it.
    """
    found: list[ChatMessage] = []
    calls = Calls()
    if system:
        found.append(System(system if isinstance(system, str) else "\n".join(block.text for block in system)))
    for number, message in enumerate(messages):
        found += _turns(message, f"messages[{number}].content", calls)
    return found


def _turns(message: InputMessage, place: str, conversation: Calls) -> list[ChatMessage]:
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[MadeCall] = []
    results: list[ChatMessage] = []
    blocks = [TextBlock(message.content)] if isinstance(message.content, str) else message.content
    for number, block in enumerate(blocks):
        here = f"{place}[{number}]"
        if isinstance(block, TextBlock):
            texts.append(block.text)
        elif isinstance(block, (ImageBlock, DocumentBlock, SearchBlock)):
            raise _refused(block, here)
        elif isinstance(block, ToolResultBlock):
            _only(message, "user", block, here)
            conversation.answered(block.tool_use_id, f"{here}.tool_use_id")
            results.append(Tool(_result(block, here), block.tool_use_id))
        else:
            _only(message, "assistant", block, here)
            if isinstance(block, ThinkingBlock):
                thoughts.append(block.thinking)
            elif isinstance(block, ToolUseBlock):
                conversation.made(block.id, block.input, f"{here}.input")
                calls.append(MadeCall(CalledFunction(block.name, block.input), block.id))
    text = "\n".join(texts)
    if message.role == "assistant":
        thought = "\n".join(thoughts) or None
        return [Assistant(text if texts or not calls else None, tool_calls=calls or None, reasoning_content=thought)]
    if message.role == "system":
        return [System(text)]
    return [*results, User(text)] if texts or not results else results


def _result(block: ToolResultBlock, place: str) -> str:
    if block.content is None or isinstance(block.content, str):
        return block.content or ""
    texts = []
    for number, part in enumerate(block.content):
        if not isinstance(part, TextBlock):
            raise _refused(part, f"{place}.content[{number}]")
        texts.append(part.text)
    return "\n".join(texts)


def _refused(block: msgspec.Struct, place: str) -> UsageError:
    return UsageError(
        f"{place} is of the type {block.__struct_config__.tag}, and this endpoint reads texts only",
        hint="Send it as text.",
        param=place,
    )


def _only(message: InputMessage, role: str, block: msgspec.Struct, place: str) -> None:
    if message.role != role:
        raise UsageError(
            f"{place} is of the type {block.__struct_config__.tag}, in a message of the role {message.role}",
            hint=f"Send it in a message of the role {role}.",
            param=place,
        )
