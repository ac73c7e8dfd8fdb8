"""JSON read character by character, so that the arguments of a call are known as they are written."""

from __future__ import annotations

import json
import re
from collections.abc import Collection

_SPACE = " \t\n\r"
_SCALAR = frozenset("+-.0123456789aeflnrstuE")
_WHOLE_SCALAR = re.compile(r"true|false|null|-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
#: Names of the arguments in the formats of all families.
ARGUMENTS = frozenset({"arguments", "parameters", "args"})
_NAMES = frozenset({"name", "function", "tool_name"})


class JsonScanner:
    """Checks one JSON value, which must be an object, an array or a text for its end to be known.

    Control characters within texts, which JSON does not have and some models write, are read as their escapes.
    """

    def __init__(self) -> None:
        self.stack: list[str] = []  #: the open brackets
        self.mode = "value"  #: what may follow
        self._scalar = ""
        self._is_key = False
        self._digits = 0

    @property
    def done(self) -> bool:
        """Whether the value is complete."""
        return self.mode == "after" and not self.stack

    def feed(self, character: str) -> str:
        """Read a character; returns it, or its escape.

        Raises:
            ValueError: no JSON value continues like this.
        """
        if self.mode == "scalar" and character not in _SCALAR:
            if not _WHOLE_SCALAR.fullmatch(self._scalar):
                raise ValueError(self._scalar)
            self.mode = "after"
        if self.mode == "string":
            return self._in_string(character)
        if self.mode in ("escape", "hex"):
            self._in_escape(character)
        elif self.mode == "scalar":
            self._scalar += character
        elif character not in _SPACE:
            self._between(character)
        return character

    def _in_string(self, character: str) -> str:
        if character == '"':
            self.mode = "colon" if self._is_key else "after"
        elif character == "\\":
            self.mode = "escape"
        elif character < " ":
            return json.dumps(character)[1:-1]
        return character

    def _in_escape(self, character: str) -> None:
        if self.mode == "hex":
            if character not in "0123456789abcdefABCDEF":
                raise ValueError(character)
            self._digits -= 1
            self.mode = "hex" if self._digits else "string"
        elif character == "u":
            self.mode, self._digits = "hex", 4
        elif character in '"\\/bfnrt':
            self.mode = "string"
        else:
            raise ValueError(character)

    def _between(self, character: str) -> None:
        mode = self.mode
        if mode in ("key", "first key") and character == '"':
            self.mode, self._is_key = "string", True
        elif mode == "colon" and character == ":":
            self.mode = "value"
        elif mode in ("value", "first item") and character in '{["-0123456789tfn':
            self._begin(character)
        elif mode == "after" and character == "," and self.stack:
            self.mode = "key" if self.stack[-1] == "{" else "value"
        elif character in "}]" and self.stack and self._may_close(character):
            self.stack.pop()
            self.mode = "after"
        else:
            raise ValueError(character)

    def _begin(self, character: str) -> None:
        if character == '"':
            self.mode, self._is_key = "string", False
        elif character in "{[":
            self.stack.append(character)
            self.mode = "first key" if character == "{" else "first item"
        else:
            self.mode, self._scalar = "scalar", character

    def _may_close(self, character: str) -> bool:
        first = "first key" if character == "}" else "first item"
        return {"}": "{", "]": "["}[character] == self.stack[-1] and self.mode in ("after", first)


class CallReader:
    """Reads one call, ``{"name": …, "arguments": {…}}``, in any order of the keys.

    Args:
        names: of the tools; None: any name.
        needs_arguments: whether an object without arguments is not a call.
    """

    def __init__(self, names: Collection[str] | None, *, needs_arguments: bool = False) -> None:
        self._scanner = JsonScanner()
        self._names, self._needs_arguments = names, needs_arguments
        self._key: str | None = None  #: of the value that is read
        self._text: str | None = None  #: of the key or value that is read
        self._quoted = False  #: the arguments are a text that holds JSON
        self._given = ""  #: arguments that wait for the name
        self.name: str | None = None
        self.began = False  #: the arguments begin, so that this is a call, if there is a name
        self.ended = False  #: the arguments are complete

    @property
    def done(self) -> bool:
        """Whether the object is complete."""
        return self._scanner.done

    @property
    def is_call(self) -> bool:
        """Whether a call has begun."""
        return self.name is not None and self.began

    def take(self) -> str:
        """The arguments since the last call of this method."""
        found, self._given = self._given, ""
        return found

    def feed(self, character: str) -> None:
        """Read a character.

        Raises:
            ValueError: the text is not a call.
        """
        scanner = self._scanner
        mode, depth = scanner.mode, len(scanner.stack)
        text = scanner.feed(character)
        if mode == "value" and depth == 0 and character not in "{" + _SPACE:
            raise ValueError(character)
        if depth == 1 and self._text is None and character not in _SPACE and mode in ("key", "first key", "value"):
            self._text = ""
            if mode == "value" and self._key in ARGUMENTS:
                self._begin_arguments(character)
        if self._text is not None:
            self._collect(text, ends_before=mode == "scalar" and depth == 1 and scanner.mode != "scalar")
        if scanner.done:
            self._close()

    def _begin_arguments(self, character: str) -> None:
        if self.began or character not in '{"n':
            raise ValueError(character)
        self._quoted = character != "{"
        self.began = not self._quoted

    def _collect(self, text: str, *, ends_before: bool) -> None:
        scanner = self._scanner
        assert self._text is not None
        if self._key is None:  # a key, or the end of an object without any
            self._text += text
            if scanner.mode == "colon":
                self._key, self._text = json.loads(self._text), None
            elif not scanner.stack:
                self._text = None
            return
        if not ends_before:
            self._text += text
            if self._key in ARGUMENTS and not self._quoted:
                self._given += text
        if ends_before or (scanner.mode == "after" and len(scanner.stack) == 1):
            self._value(self._key, self._text)
            self._key = self._text = None

    def _value(self, key: str, text: str) -> None:
        if key in _NAMES and self.name is None and text.startswith('"'):
            name = json.loads(text)
            if self._names is not None and name not in self._names:
                raise ValueError(name)
            self.name = name
        elif key in ARGUMENTS:
            if self._quoted:
                inner = json.loads(text) or "{}"
                if not isinstance(json.loads(inner), dict):
                    raise ValueError(inner)
                self._given, self.began = inner, True
            self.ended = True

    def _close(self) -> None:
        if self.name is None or (self._needs_arguments and not self.began):
            raise ValueError("no call")
        if not self.began:
            self._given = "{}"
        self.began = self.ended = True
