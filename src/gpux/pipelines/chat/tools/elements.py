"""Calls that are written as elements: ``<function=name><parameter=key>value</parameter></function>``.

Source: the chat templates of Qwen3-Coder and GLM 4.5. A value is the text itself where the schema has a text, and else
JSON, or Python's notation of it.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

from gpux.inspect.chat_styles import XmlStyle

_LONGEST = 512  # characters of a head; a longer one is content
_CONSTANTS = {"true": True, "false": False, "null": None, "none": None}


class Elements:
    """Reads one call.

    Args:
        style: how it is written.
        names: of the tools, or their names with the JSON schemas of their arguments; None: any name.
    """

    def __init__(self, style: XmlStyle, names: Collection[str] | None) -> None:
        self._style, self._names = style, names
        self._properties: Mapping[str, Any] = {}
        self._reading = "name"  #: what comes next: ``name``, ``key``, ``line``, ``text`` or ``value``
        self._textual = False  #: the value is a text
        self._searched = 0  #: characters of the value in which its end is not
        self._count = 0  #: arguments so far
        self.name: str | None = None
        self.done = False
        self.failed = False

    def feed(self, text: str, last: bool) -> tuple[int, str]:
        """The characters that were used, and the JSON text of the arguments that they make.

        Args:
            text: what was not used before, and more.
            last: nothing follows.
        """
        place, given = 0, ""
        steps = {"name": self._head, "key": self._key, "line": self._line, "text": self._text, "value": self._value}
        while not (self.done or self.failed):
            found = steps[self._reading](text[place:], last)
            if found is None:
                self.failed = self.failed or (last and not self.done)
                break
            place, given = place + found[0], given + found[1]
        return place, given

    # Each step returns the characters that it used, and arguments; None: it needs more.

    def _head(self, rest: str, last: bool) -> tuple[int, str] | None:
        found = self._matched(rest, last, *_name(self._style))
        if found is None:
            return None
        if self._names is not None and found[1] not in self._names:
            self.failed = True
            return None
        self.name, self._reading = found[1], "key"
        schema = self._names[self.name] if isinstance(self._names, Mapping) else None
        properties = schema.get("properties") if isinstance(schema, Mapping) else None
        self._properties = properties if isinstance(properties, Mapping) else {}
        return found.end(), "{"

    def _key(self, rest: str, last: bool) -> tuple[int, str] | None:
        """The beginning of an argument, or the end of the call."""
        space = len(rest) - len(rest.lstrip())
        rest = rest[space:]
        end = self._style.end or self._style.closes
        if rest.startswith(end) or (last and not rest and not self._style.end):
            self.done = True
            return space + len(self._style.end), "}"
        if not last and end.startswith(rest):
            return None
        found = self._matched(rest, last, *_keys(self._style))
        if found is None:
            return None
        self._count += 1
        self._textual = is_text(self._properties.get(found[1]))
        self._reading = "line" if self._style.lines else "text" if self._textual else "value"
        comma = "" if self._count == 1 else ", "
        quote = '"' if self._textual else ""
        return space + found.end(), f"{comma}{json.dumps(found[1], ensure_ascii=False)}: {quote}"

    def _line(self, rest: str, last: bool) -> tuple[int, str] | None:
        """The line break before a value."""
        if not rest:
            return None
        self._reading = "text" if self._textual else "value"
        return int(rest[0] == "\n"), ""

    def _text(self, rest: str, last: bool) -> tuple[int, str] | None:
        end = self._style.after_value.strip()
        place = rest.find(end)
        if place >= 0:
            self._reading = "key"
            value = rest[:place]
            return place + len(end), _escaped(value.removesuffix("\n") if self._style.lines else value) + '"'
        held = begun(rest, (f"\n{end}", end) if self._style.lines else (end,))
        size = len(rest) - held
        return (size, _escaped(rest[:size])) if size else None

    def _value(self, rest: str, last: bool) -> tuple[int, str] | None:
        end = self._style.after_value.strip()
        place = rest.find(end, max(0, self._searched - len(end)))
        if place < 0:
            self._searched = len(rest)
            return None
        self._reading, self._searched = "key", 0
        return place + len(end), json.dumps(_read(rest[:place].strip()), ensure_ascii=False)

    def _matched(self, rest: str, last: bool, before: str, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """The match at the beginning; None: there may be one with more text, or none at all, which is noted."""
        found = pattern.match(rest)
        if found is None:
            begins = rest.startswith(before) or before.startswith(rest)
            self.failed = bool(rest) and (last or not begins or len(rest) >= _LONGEST)
        return found


def is_text(schema: Any) -> bool:
    """Whether a value of a JSON schema is written as it is; else it is JSON."""
    if not isinstance(schema, Mapping):
        return False
    if "type" in schema:
        return bool(schema["type"] == "string")
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    return isinstance(values, list) and bool(values) and all(isinstance(value, str) for value in values)


def begun(text: str, marks: Sequence[str]) -> int:
    """The characters at the end of a text that may be the beginning of a mark."""
    longest = max((len(mark) for mark in marks), default=1) - 1
    for size in range(min(longest, len(text)), 0, -1):
        if any(mark.startswith(text[-size:]) for mark in marks):
            return size
    return 0


@cache
def _name(style: XmlStyle) -> tuple[str, re.Pattern[str]]:
    """The text before the name of a tool, and both with what follows."""
    after = re.escape(style.after_name.strip()) or r"(?=\s|<)"
    return style.before_name, re.compile(rf"{re.escape(style.before_name)}([\w.\-]{{1,128}}){after}")


@cache
def _keys(style: XmlStyle) -> tuple[str, re.Pattern[str]]:
    after = r"\s{0,8}".join(re.escape(part) for part in style.after_key.split())
    return style.before_key, re.compile(rf"{re.escape(style.before_key)}([^<>\n]{{0,256}}){after}")


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _read(text: str) -> Any:
    """The value of a text that should be JSON."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        pass
    if text.lower() in _CONSTANTS:
        return _CONSTANTS[text.lower()]
    try:
        found = ast.literal_eval(text)
        return json.loads(json.dumps(found, allow_nan=False))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return text


def _refuse(constant: str) -> Any:
    raise ValueError(constant)
