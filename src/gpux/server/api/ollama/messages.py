"""The messages of a chat in Ollama's API, as a chat template takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from gpux.errors import UsageError


class CalledFunction(msgspec.Struct):
    """``tool_calls[].function``."""

    name: str
    arguments: dict[str, Any] = {}


class MadeCall(msgspec.Struct):
    """One of ``tool_calls``; Ollama's own clients send no ids."""

    function: CalledFunction
    id: str | None = None


class Message(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One message."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | None = None
    thinking: str | None = None
    images: list[Any] | None = None
    tool_calls: list[MadeCall] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None
    name: str | None = None


def plain(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages as a chat template takes them.

    Raises:
        UsageError: a message has pictures, or nothing, or is a result without a call.
    """
    calls = _Calls()
    return [_plain(message, f"messages[{number}]", calls) for number, message in enumerate(messages)]


class _Calls:
    """The calls of a conversation that have no result yet."""

    def __init__(self) -> None:
        self._waiting: dict[str, str] = {}  #: id -> name of the tool
        self._made = 0

    def made(self, call: MadeCall) -> dict[str, Any]:
        """A call, with the id that it has or a new one."""
        self._made += 1
        id = call.id or f"call_{self._made}"
        self._waiting[id] = call.function.name
        return {"id": id, "type": "function", "function": msgspec.structs.asdict(call.function)}

    def answered(self, message: Message, place: str) -> tuple[str, str]:
        """The id and the tool of a result: by its id, else the first call of its tool, else the first call.

        Raises:
            UsageError: no call waits for it.
        """
        name, id = message.tool_name or message.name, message.tool_call_id
        if id not in self._waiting:
            id = next((one for one, tool in self._waiting.items() if name in (None, tool)), None)
        if id is None:
            what = "a tool" if name is None else name
            raise UsageError(
                f"{place} is a result of {what}, and no message before it has the call",
                hint="Send the message with the call before its result.",
                param=place,
            )
        tool = self._waiting.pop(id)
        return id, name or tool


def _plain(message: Message, place: str, calls: _Calls) -> dict[str, Any]:
    if message.images:
        raise UsageError(
            f"{place}.images is not supported", hint="The model reads texts only.", param=f"{place}.images"
        )
    made = [calls.made(call) for call in message.tool_calls or ()]
    if message.content is None and not made:
        raise UsageError(f"{place} has no content", hint="Add it.", param=f"{place}.content")
    id, name = calls.answered(message, place) if message.role == "tool" else (None, message.name)
    found = {
        "role": "system" if message.role == "developer" else message.role,
        "content": message.content or "",
        "tool_calls": made or None,
        "reasoning_content": message.thinking,
        "name": name,
        "tool_call_id": id,
    }
    return {key: value for key, value in found.items() if value is not None}
