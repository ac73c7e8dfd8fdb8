"""Messages of a chat, as a user hands them in and as a template may see them: plain JSON values, checked.

The form is that of transformers and of OpenAI's API: dicts with ``role`` and ``content``, where the content is a text
or a list of parts (``{"type": "text", "text": …}``), and may be missing beside ``tool_calls``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gpux.errors import InputError

Message = dict[str, Any]
_FORM = 'Messages look like [{"role": "user", "content": "Hello"}].'
_TOOL_ROLES = frozenset({"tool", "ipython", "function"})  #: their content is what a function gave back: any value


def checked(messages: Any) -> list[Message]:
    """A copy of the messages in plain values.

    Arguments of tool calls that come as JSON text, as OpenAI's API has them, become the object that they spell:
    templates write arguments with ``tojson``, which would quote a text again.

    Raises:
        InputError: it names the first message that is no such thing, and says why.
    """
    if not isinstance(messages, (list, tuple)):
        raise InputError(f"messages are a list of dicts, and this is {_kind(messages)}", hint=_FORM)
    if not messages:
        raise InputError("there is no message", hint=_FORM)
    return [_message(message, index) for index, message in enumerate(messages)]


def _message(message: Any, index: int) -> Message:
    if not isinstance(message, Mapping):
        raise _wrong(index, f"is no dict, but {_kind(message)}")
    found: Message = plain(message, f"message {index}")
    role = found.get("role")
    if not isinstance(role, str) or not role:
        raise _wrong(index, "has no role")
    _check_calls(found, index)
    if role not in _TOOL_ROLES:
        _check_content(found, index)
    return found


def _check_content(message: Message, index: int) -> None:
    content = message.get("content")
    if content is None:
        if not message.get("tool_calls"):
            raise _wrong(index, "has no content")
    elif isinstance(content, list):
        for part in content:
            if not isinstance(part, dict) or not isinstance(part.get("type"), str):
                raise _wrong(index, 'has a part that is no dict with a type, such as {"type": "text", "text": "Hello"}')
            if part["type"] == "text" and not isinstance(part.get("text"), str):
                raise _wrong(index, "has a text part without its text")
    elif not isinstance(content, str):
        raise _wrong(index, f"has {_kind(content)} for its content, which is a text or a list of parts")


def _check_calls(message: Message, index: int) -> None:
    calls = message.get("tool_calls")
    if calls is None:
        return
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise _wrong(index, "has tool_calls that are no list of dicts")
    for call in calls:
        called = call.get("function", call)
        if not isinstance(called, dict) or not isinstance(called.get("name"), str):
            raise _wrong(index, "has a tool call without the name of its function")
        called["arguments"] = _arguments(called.get("arguments", {}))


def _arguments(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    try:
        found = json.loads(given)
    except ValueError:
        return given
    return found if isinstance(found, dict) else given


def plain(value: Any, where: str) -> Any:
    """A copy in JSON's own types, so that a template meets no object with methods of its own.

    Raises:
        InputError: another type, a text that is no valid Unicode, or a value within itself.
    """
    try:
        return _plain(value, where)
    except RecursionError as exc:
        raise InputError(f"{where} is nested too deeply") from exc


def _plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, where)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return {_text(str(key), where): _plain(item, where) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, where) for item in value]
    raise InputError(
        f"{where} holds {_kind(value)}, and a chat template takes texts, numbers, lists and dicts",
        hint="Give what it stands for as text: a path, a URL, or JSON.",
    )


def _text(value: str, where: str) -> str:
    try:
        return value.encode().decode()
    except UnicodeEncodeError as exc:
        raise InputError(
            f"{where} is no valid Unicode text: a lone surrogate, U+{ord(value[exc.start]):04X}",
            hint="It may come from bytes that are no UTF-8: convert them first, with iconv for instance.",
        ) from exc


class Parts(list[Any]):
    """Content as parts; refuses to be written as text, where Python's notation of a list would reach the model."""

    def __str__(self) -> str:
        raise TypeError("this template takes content as text, and got a list of parts")


def guarded(messages: Sequence[Message]) -> list[Message]:
    """The same messages, whose lists of parts cannot be written as text."""
    return [
        {**message, "content": Parts(message["content"])} if isinstance(message.get("content"), list) else message
        for message in messages
    ]


def as_text(messages: Sequence[Message]) -> list[Message] | None:
    """The same with text for every list of parts; None where a list is more than one text."""
    found = []
    for message in messages:
        content = message.get("content")
        if isinstance(content, list) and message["role"] not in _TOOL_ROLES:
            if [part["type"] for part in content] != ["text"]:
                return None
            message = {**message, "content": content[0]["text"]}
        found.append(message)
    return found


def as_parts(messages: Sequence[Message]) -> list[Message]:
    """The same with a list of one part for every text."""
    return [
        {**message, "content": Parts([{"type": "text", "text": message["content"]}])}
        if isinstance(message.get("content"), str)
        else message
        for message in messages
    ]


def shows(prompt: str, message: Message) -> bool:
    """Whether a prompt has the text of a message; a template may trim it."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    texts = [part.get("text") for part in parts]
    return all(text.strip() in prompt for text in texts if isinstance(text, str))


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _wrong(index: int, what: str) -> InputError:
    return InputError(f"message {index} {what}", hint=_FORM, index=index)
