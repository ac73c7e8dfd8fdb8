"""Tools that a chat may call: JSON schemas as they are, and simple Python functions turned into such schemas.

The form is that of OpenAI's API and of transformers' ``get_json_schema``:
``{"type": "function", "function": {"name": …, "description": …, "parameters": …}}``.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gpux.errors import InputError
from gpux.pipelines.chat.messages import plain

Tool = dict[str, Any]
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
        InputError: a tool that is neither a dict nor a function whose types and docstring say enough.
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
        return of_function(tool)
    raise InputError(f"tool {index} is neither a dict nor a function", hint=_HINT, index=index)


def of_function(function: Callable[..., Any]) -> Tool:
    """The schema of a function with a Google-style docstring and types that JSON has.

    Raises:
        InputError: a parameter without type or description, or of a type that JSON has not.
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
            raise _unclear(name, f"takes any number of arguments as {parameter.name}")
        for known, what in ((hints, "a type"), (described, "a description under Args:")):
            if parameter.name not in known:
                raise _unclear(name, f"does not give {parameter.name} {what}")
        properties[parameter.name] = {**_type(hints[parameter.name], name), "description": described[parameter.name]}
        if parameter.default is parameter.empty:
            required.append(parameter.name)
    parameters = {"type": "object", "properties": properties, **({"required": required} if required else {})}
    made: dict[str, Any] = {"name": name, "description": description, "parameters": parameters}
    if "return" in hints:
        made["return"] = _type(hints["return"], name) | ({"description": returned} if returned else {})
    return {"type": "function", "function": made}


def _type(hint: Any, name: str) -> dict[str, Any]:
    """The JSON schema of a type: a plain one, a list or dict of such, a choice of values, or one of these or None."""
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
    raise _unclear(name, f"has a parameter or answer of the type {hint}")


def _docstring(text: str) -> tuple[str, dict[str, str], str]:
    """Description, the arguments' descriptions, and what is said of the answer."""
    pieces = _SECTION.split(text)
    sections = dict(zip(pieces[1::2], pieces[2::2], strict=True))
    listed = sections.get("Args") or sections.get("Arguments") or ""
    return pieces[0].strip(), _arguments(listed.splitlines()), _joined(sections.get("Returns", "").splitlines())


def _arguments(lines: Sequence[str]) -> dict[str, str]:
    """``name: text`` at the outermost indentation; what is indented deeper goes on."""
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
    return InputError(f"{name} {what}, so that it cannot be described to a model", hint=_HINT)
