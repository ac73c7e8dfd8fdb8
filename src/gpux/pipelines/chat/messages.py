"""Messages and tools of a chat, as a user hands them in and as a template reads them: plain JSON values, checked.

The form is that of transformers and of OpenAI's API. A message is a dict with ``role`` and ``content``, where the
content is a text or a list of parts (``{"type": "text", "text": …}``), and may be missing beside ``tool_calls``. A tool
is ``{"type": "function", "function": {"name": …, "description": …, "parameters": …}}``, or a Python function, whose
dict is built as in transformers' ``get_json_schema``.
"""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gpux.errors import InputError

Message = dict[str, Any]
Tool = dict[str, Any]

_FORM = 'Messages look like [{"role": "user", "content": "Hello"}].'
_TOOL_ROLES = frozenset({"tool", "ipython", "function"})  #: their content is a function's result: any value

# -- messages ----------------------------------------------------------------------------------------------------------


def checked(messages: Any) -> list[Message]:
    """A copy of the messages in plain values.

    Arguments of tool calls that are JSON text, as in OpenAI's API, become the object that they spell: templates write
    arguments with ``tojson``, which would quote a text again.

    Raises:
        InputError: the first message that is invalid, and why.
    """
    if not isinstance(messages, (list, tuple)):
        raise InputError(f"messages are a list of dicts, and this is {_kind(messages)}", hint=_FORM)
    if not messages:
        raise InputError("there are no messages", hint=_FORM)
    return [_message(message, index) for index, message in enumerate(messages)]


def _message(message: Any, index: int) -> Message:
    if not isinstance(message, Mapping):
        raise _wrong(index, f"is not a dict, but {_kind(message)}")
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
                raise _wrong(
                    index, 'has a part that is not a dict with a type, such as {"type": "text", "text": "Hello"}'
                )
            if part["type"] == "text" and not isinstance(part.get("text"), str):
                raise _wrong(index, "has a text part without its text")
    elif not isinstance(content, str):
        raise _wrong(index, f"has {_kind(content)} for its content, which must be a text or a list of parts")


def _check_calls(message: Message, index: int) -> None:
    calls = message.get("tool_calls")
    if calls is None:
        return
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise _wrong(index, "has tool_calls that are not a list of dicts")
    for call in calls:
        called = call.get("function", call)
        if not isinstance(called, dict) or not isinstance(called.get("name"), str):
            raise _wrong(index, "has a tool call without the name of its function")
        called["arguments"] = _call_arguments(called.get("arguments", {}))


def _call_arguments(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    try:
        found = json.loads(given)
    except ValueError:
        return given
    return found if isinstance(found, dict) else given


def plain(value: Any, where: str) -> Any:
    """A copy in JSON's own types, so that a template gets no object with methods of its own.

    Raises:
        InputError: another type, a text that is not valid Unicode, or a value that contains itself.
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
        f"{where} contains {_kind(value)}, and a chat template reads texts, numbers, lists and dicts",
        hint="Give it as text: a path, a URL, or JSON.",
    )


def _text(value: str, where: str) -> str:
    try:
        return value.encode().decode()
    except UnicodeEncodeError as exc:
        raise InputError(
            f"{where} is not valid Unicode text: a lone surrogate, U+{ord(value[exc.start]):04X}",
            hint="It may come from bytes that are not UTF-8: convert them first, with iconv for instance.",
        ) from exc


class Parts(list[Any]):
    """Content as parts; cannot be written as text, where Python's notation of a list would reach the model."""

    def __str__(self) -> str:
        raise TypeError("this template reads content as text, and got a list of parts")


def guarded(messages: Sequence[Message]) -> list[Message]:
    """The same messages, with :class:`Parts` for every list of parts."""
    return [
        {**message, "content": Parts(message["content"])} if isinstance(message.get("content"), list) else message
        for message in messages
    ]


def as_text(messages: Sequence[Message]) -> list[Message] | None:
    """The same messages with a text for every list of parts; None where a list is not a single text part."""
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
    """The same messages with a list of one part for every text."""
    return [
        {**message, "content": Parts([{"type": "text", "text": message["content"]}])}
        if isinstance(message.get("content"), str)
        else message
        for message in messages
    ]


def with_text_arguments(messages: Sequence[Message]) -> list[Message]:
    """The same messages with the arguments of their calls as JSON text, which some templates join with other texts."""
    found = []
    for message in messages:
        if calls := message.get("tool_calls"):
            message = {**message, "tool_calls": [_with_text(call) for call in calls]}
        found.append(message)
    return found


def _with_text(call: dict[str, Any]) -> dict[str, Any]:
    called = call.get("function", call)
    if not isinstance(called.get("arguments"), dict):
        return call
    text = {**called, "arguments": json.dumps(called["arguments"], ensure_ascii=False)}
    return {**call, "function": text} if "function" in call else text


def shows(prompt: str, message: Message) -> bool:
    """Whether a prompt contains the text of a message; a template may trim it."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    texts = [part.get("text") for part in parts]
    return all(text.strip() in prompt for text in texts if isinstance(text, str))


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _wrong(index: int, what: str) -> InputError:
    return InputError(f"message {index} {what}", hint=_FORM, index=index)


# -- tools -------------------------------------------------------------------------------------------------------------

_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", list: "array", dict: "object"}
_HINT = (
    'Give the tool as a dict: {"type": "function", "function": {"name": "…", "description": "…", '
    '"parameters": {"type": "object", "properties": {…}}}}.'
)
_SECTION = re.compile(r"^(Args|Arguments|Returns|Raises|Yields|Example|Examples|Note):\s*$", re.MULTILINE)
_ARGUMENT = re.compile(r"^(\w+)(?:\s*\([^)]*\))?:\s*(.*)$")


def schemas(tools: Any) -> list[Tool] | None:
    """Every tool as a dict; None for no tools.

    Raises:
        InputError: a tool that is neither a dict nor a function with enough types and docstring.
    """
    if tools is None:
        return None
    if not isinstance(tools, (list, tuple)):
        raise InputError("tools are a list of dicts", hint=_HINT)
    return [_schema(tool, index) for index, tool in enumerate(tools)] or None


def _schema(tool: Any, index: int) -> Tool:
    if isinstance(tool, Mapping):
        found: Tool = plain(tool, f"tool {index}")
        return found
    if inspect.isfunction(tool) or inspect.ismethod(tool):
        return function_schema(tool)
    raise InputError(f"tool {index} is neither a dict nor a function", hint=_HINT, index=index)


def function_schema(function: Callable[..., Any]) -> Tool:
    """The schema of a function with a Google-style docstring and types that JSON has.

    Raises:
        InputError: a parameter without type or description, or of a type that JSON does not have.
    """
    name = getattr(function, "__name__", "the function")
    description, described, returned = _docstring(inspect.getdoc(function) or "")
    if not description:
        raise _unclear(name, "has no docstring")
    try:
        hints = get_type_hints(function)
    except (NameError, TypeError) as exc:
        raise _unclear(name, f"has types that cannot be read: {exc}") from exc
    properties, required = {}, []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise _unclear(name, f"accepts any number of arguments as {parameter.name}")
        for known, what in ((hints, "a type"), (described, "a description under Args:")):
            if parameter.name not in known:
                raise _unclear(name, f"does not give {parameter.name} {what}")
        properties[parameter.name] = {**_type(hints[parameter.name], name), "description": described[parameter.name]}
        if parameter.default is parameter.empty:
            required.append(parameter.name)
    parameters = {"type": "object", "properties": properties, **({"required": required} if required else {})}
    found: dict[str, Any] = {"name": name, "description": description, "parameters": parameters}
    if "return" in hints:
        found["return"] = _type(hints["return"], name) | ({"description": returned} if returned else {})
    return {"type": "function", "function": found}


def _type(hint: Any, name: str) -> dict[str, Any]:
    """The JSON schema of a type, with ``nullable`` for None as transformers writes it.

    Supported are str, int, float, bool, list, dict, lists and dicts of these, Literal, and any of these or None.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if hint is None or hint is type(None):
        return {"type": "null"}
    if hint in _TYPES:
        return {"type": _TYPES[hint]}
    if origin is list:
        return {"type": "array", "items": _type(inner[0], name)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _type(inner[1], name)}
    if origin is Literal and len({type(value) for value in inner}) == 1:
        return {**_type(type(inner[0]), name), "enum": list(inner)}
    if origin in (Union, types.UnionType) and len(inner) == 2 and type(None) in inner:
        other = inner[0] if inner[1] is type(None) else inner[1]
        return {**_type(other, name), "nullable": True}
    raise _unclear(name, f"has a parameter or result of the type {hint}")


def _docstring(text: str) -> tuple[str, dict[str, str], str]:
    """Description, the arguments' descriptions, and the description of the result."""
    pieces = _SECTION.split(text)
    sections = dict(zip(pieces[1::2], pieces[2::2], strict=True))
    listed = sections.get("Args") or sections.get("Arguments") or ""
    return pieces[0].strip(), _described(listed.splitlines()), _joined(sections.get("Returns", "").splitlines())


def _described(lines: Sequence[str]) -> dict[str, str]:
    """Descriptions by argument: ``name: text`` at the outermost indentation; deeper lines continue the text."""
    written = [line for line in lines if line.strip()]
    outer = min((_indent(line) for line in written), default=0)
    found: dict[str, list[str]] = {}
    last = None
    for line in written:
        begun = _ARGUMENT.match(line.strip()) if _indent(line) == outer else None
        if begun:
            last = begun[1]
            found[last] = [begun[2]]
        elif last is not None:
            found[last].append(line)
    return {name: _joined(text) for name, text in found.items()}


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _joined(lines: Sequence[str]) -> str:
    return " ".join(line.strip() for line in lines if line.strip())


def _unclear(name: str, what: str) -> InputError:
    return InputError(f"{name} {what}, so it cannot be described to a model", hint=_HINT)
