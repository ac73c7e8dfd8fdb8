"""OpenAI's harmony format: messages in channels, each ``<|start|>role<|channel|>name<|message|>text<|end|>``.

Source: the guide "OpenAI harmony response format". The channel ``analysis`` is reasoning, ``final`` and ``commentary``
are content, and a message to ``functions.NAME`` is a call of a tool.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from gpux.pipelines.chat.tools.elements import begun
from gpux.pipelines.chat.tools.events import Event
from gpux.pipelines.chat.tools.parser import Emitter, call_id
from gpux.pipelines.chat.tools.scanning import JsonScanner

_MESSAGE = "<|message|>"
_BEGIN = ("<|channel|>", "<|start|>")
_ENDS = ("<|end|>", "<|call|>", "<|return|>")
_RECIPIENT = re.compile(r"\bto=functions\.([\w.\-]+)")
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")
_LONGEST = 512  # characters of a head; a longer one is content


class HarmonyParser:
    """See :class:`gpux.pipelines.chat.tools.parser.Parser`.

    Args:
        names: of the tools; a call of another name is content. None: any name.
        calls: whether messages to functions are calls; else they are content.
    """

    def __init__(self, names: Collection[str] | None = None, *, calls: bool = True) -> None:
        self._names, self._calls = names, calls
        self._out = Emitter(call_id)
        self._buffer = ""
        self._raw = ""
        self._channel = "final"
        self._scanner: JsonScanner | None = None
        self._state: Callable[[bool], bool] = self._outside

    def feed(self, text: str) -> list[Event]:
        """See :class:`gpux.pipelines.chat.tools.parser.Parser`."""
        self._buffer += text
        while self._state(False):
            pass
        return self._out.take()

    def finish(self) -> list[Event]:
        """See :class:`gpux.pipelines.chat.tools.parser.Parser`."""
        while self._state(True):
            pass
        return self._out.take()

    def _outside(self, last: bool) -> bool:
        """Before a message: its head, or text without one."""
        rest = self._buffer.lstrip()
        if not rest:
            return False
        if rest.startswith(_BEGIN):
            self._buffer, self._state = rest, self._head
            return True
        if not last and any(mark.startswith(rest) for mark in _BEGIN):
            return False
        self._channel, self._state = "final", self._text
        return True

    def _head(self, last: bool) -> bool:
        head, mark, after = self._buffer.partition(_MESSAGE)
        if not mark and not last and len(head) < _LONGEST:
            return False
        if not mark:
            if len(head) >= _LONGEST:
                self._out.content(self._buffer)
            self._buffer, self._state = "", self._outside
            return False
        called, channel = _RECIPIENT.search(head), _CHANNEL.search(head)
        self._buffer = after
        self._channel = channel[1] if channel else "final"
        if called and self._calls:
            if self._names is None or called[1] in self._names:
                self._raw = head + mark
                self._out.begin(called[1])
                self._scanner, self._state = JsonScanner(), self._arguments
                return True
            self._channel = "final"
        self._state = self._text
        return True

    def _text(self, last: bool) -> bool:
        found = [place for mark in (*_ENDS, *_BEGIN) if (place := self._buffer.find(mark)) >= 0]
        held = 0 if last or found else begun(self._buffer, (*_ENDS, *_BEGIN))
        end = min(found) if found else len(self._buffer) - held
        text, self._buffer = self._buffer[:end], self._buffer[end:]
        (self._out.reasoning if self._channel == "analysis" else self._out.content)(text)
        if not found:
            return False
        self._close()
        return True

    def _arguments(self, last: bool) -> bool:
        scanner = self._scanner
        assert scanner is not None
        for place, character in enumerate(self._buffer):
            try:
                text = scanner.feed(character)
            except ValueError:
                return self._give_up(place)
            if not scanner.stack and not scanner.done and not character.isspace():  # another value than an object
                return self._give_up(place)
            self._out.arguments(text)
            if scanner.done:
                self._buffer = self._buffer[place + 1 :]
                self._out.end(True)
                self._state = self._after
                return True
        self._raw, self._buffer = self._raw + self._buffer, ""
        return self._give_up(0) if last else False

    def _after(self, last: bool) -> bool:
        """After a call: the end of its message."""
        self._buffer = self._buffer.lstrip()
        if not self._buffer or (not last and any(mark.startswith(self._buffer) for mark in _ENDS)):
            return False
        self._close()
        return True

    def _give_up(self, place: int) -> bool:
        self._out.end(False, self._raw + self._buffer[:place])
        self._buffer, self._channel, self._state = self._buffer[place:], "final", self._text
        return True

    def _close(self) -> None:
        """Leave out the mark that ends a message."""
        for mark in _ENDS:
            if self._buffer.startswith(mark):
                self._buffer = self._buffer[len(mark) :]
                break
        self._state = self._outside
