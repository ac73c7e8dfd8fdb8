"""The TOML file: its values, and the line of each key."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from gpux.chat.configuration.faults import Fault, error_of
from gpux.chat.configuration.lines import key_lines

#: Bytes of a file at most; a longer one is something else.
LARGEST_FILE = 1 << 20
_PLACE = re.compile(r"(?P<message>.*?) \((?:at line (?P<line>\d+), column \d+|at end of document)\)$", re.DOTALL)
_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Document:
    """A file that was read. An empty one stands for a file that does not exist."""

    source: str  #: its path, for messages
    data: bytes = b""
    text: str = ""
    values: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Document:
        """Read a file.

        Raises:
            FileNotFoundError: it does not exist.
            ConfigurationError: it cannot be read, or is not TOML.
        """
        try:
            with path.open("rb") as file:
                data = file.read(LARGEST_FILE + 1)
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise error_of([Fault(f"the file cannot be read: {why}", str(path))]) from error
        return cls.parse(data, str(path))

    @classmethod
    def parse(cls, data: bytes, source: str) -> Document:
        """A document from the bytes of a file.

        Args:
            data: of the file.
            source: its path, for messages.

        Raises:
            ConfigurationError: it is not TOML.
        """
        if len(data) > LARGEST_FILE:
            raise error_of([Fault(f"the file is larger than {LARGEST_FILE >> 20} MiB", source)])
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise error_of([Fault("the file is not UTF-8", source, line, hint="Save it as UTF-8.")]) from error
        text = text.replace("\r\n", "\n")
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise error_of([_syntax_fault(str(error), text, source)]) from error
        except (RecursionError, ValueError) as error:  # a number with thousands of digits
            raise error_of([Fault(f"the file is not valid TOML: {error}", source)]) from error
        return cls(source, data, text, values)

    @cached_property
    def _lines(self) -> dict[tuple[str, ...], int]:
        return key_lines(self.text)

    def line(self, key: tuple[str, ...]) -> int | None:
        """The line of a key, else of the innermost table around it; None: the file has neither."""
        for length in range(len(key), 0, -1):
            if (found := self._lines.get(key[:length])) is not None:
                return found
        return None

    def place(self, key: tuple[str, ...]) -> str:
        """``FILE:LINE`` of a key."""
        return f"{self.source}:{self.line(key)}"

    @staticmethod
    def dotted(key: tuple[str, ...]) -> str:
        """A key as TOML writes it: ``models."hf:org/name".device``."""
        return ".".join(
            name if _BARE.fullmatch(name) or name == "*" else '"{}"'.format(name.replace('"', '\\"')) for name in key
        )


def _syntax_fault(message: str, text: str, source: str) -> Fault:
    """tomllib's error, with the line and the key at it."""
    match = _PLACE.fullmatch(message)
    if match is None:
        return Fault(f"the file is not valid TOML: {message}", source)
    lines = text.rstrip().split("\n")
    number = int(match["line"] or len(lines))
    at = lines[number - 1] if number <= len(lines) else ""
    key = at.partition("=")[0].strip() if "=" in at and not at.lstrip().startswith("#") else None
    return Fault(f"not valid TOML: {match['message'].lower()}", source, number, key or None)
