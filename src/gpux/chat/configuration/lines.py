"""The lines of a TOML document at which its keys stand, which :mod:`tomllib` does not tell.

The document has been read by tomllib before, so that it is valid: this module finds keys and skips values, and checks
nothing. Source of the format: https://toml.io/en/v1.0.0.
"""

from __future__ import annotations

import re
import tomllib

#: Names of nested tables; a table of an array has its place as text.
Path = tuple[str, ...]

_SPACE = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*+")
_BLANK = re.compile(r"[ \t]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*+"{3,5}'
    r"|'''(?:[^']|'{1,2}(?!'))*+'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*+"'
    r"|'[^'\n]*+'",
    re.DOTALL,
)
_PLAIN = re.compile(r"[^,\]}\n#]+")  # numbers, dates, booleans


def key_lines(text: str) -> dict[Path, int]:
    """The line, from 1, of each key and table header of a valid document."""
    return _Scanner(text).scan()


class _Scanner:
    """Walks over the characters of a document once."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._counted = 0  #: characters whose lines are counted
        self._line = 1
        self._lines: dict[Path, int] = {}
        self._implied: dict[Path, int] = {}  #: tables that only the headers of their own tables name
        self._arrays: dict[Path, int] = {}  #: path of an array of tables -> number of its tables

    def scan(self) -> dict[Path, int]:
        """See :func:`key_lines`."""
        table: Path = ()
        self._skip(_SPACE)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_SPACE)
        return {**self._implied, **self._lines}

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match[0]

    def _note(self, path: Path, at: int) -> None:
        self._line += self._text.count("\n", self._counted, at)
        self._counted = at
        self._lines.setdefault(path, self._line)
        for length in range(1, len(path)):
            self._implied.setdefault(path[:length], self._line)

    def _header(self) -> Path:
        start, brackets = self._at, 2 if self._text.startswith("[[", self._at) else 1
        self._at += brackets
        named = self._key()
        self._at += brackets
        path: Path = ()
        for place, name in enumerate(named):
            path = (*path, name)
            if brackets == 2 and place == len(named) - 1:
                self._arrays[path] = self._arrays.get(path, 0) + 1
            if path in self._arrays:
                path = (*path, str(self._arrays[path] - 1))
        self._note(path, start)
        return path

    def _key(self) -> Path:
        names = []
        while True:
            self._skip(_BLANK)
            quoted = self._skip(_STRING)
            names.append(tomllib.loads(f"x = {quoted}")["x"] if quoted else self._skip(_BARE))
            self._skip(_BLANK)
            if self._text[self._at] != ".":
                return tuple(names)
            self._at += 1

    def _pair(self, table: Path) -> None:
        start = self._at
        named = self._key()
        for length in range(1, len(named) + 1):
            self._note((*table, *named[:length]), start)
        self._at += 1  # the equals sign
        self._skip(_BLANK)
        self._value((*table, *named))

    def _value(self, path: Path) -> None:
        first = self._text[self._at]
        if first == "{":
            self._several("}", path)
        elif first == "[":
            self._several("]", path)
        elif not self._skip(_STRING):
            self._skip(_PLAIN)

    def _several(self, end: str, path: Path) -> None:
        """An array, or an inline table."""
        self._at += 1
        place = 0
        self._skip(_SPACE)
        while self._text[self._at] != end:
            if end == "}":
                self._pair(path)
            else:
                self._note((*path, str(place)), self._at)
                self._value((*path, str(place)))
            place += 1
            self._skip(_SPACE)
            if self._text[self._at] == ",":
                self._at += 1
                self._skip(_SPACE)
        self._at += 1
