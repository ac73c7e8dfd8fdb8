"""Takes an answer apart while it is written: content, reasoning, and calls of tools.

An answer comes in pieces that may end anywhere. Held back is only what may be the beginning of a mark, white space
that may be before a mark, and a call until its name is known.
"""

from __future__ import annotations

import json
import re
import secrets
import string
from collections.abc import Callable, Collection
from typing import Protocol

from gpux.inspect.chat_styles import GEMMA, ReasoningStyle, ToolStyle
from gpux.pipelines.chat.tools.elements import Elements, begun
from gpux.pipelines.chat.tools.events import (
    CallArguments,
    CallBegun,
    CallEnded,
    Content,
    Event,
    Reasoning,
)
from gpux.pipelines.chat.tools.python_calls import python_calls
from gpux.pipelines.chat.tools.scanning import CallReader, JsonScanner

_NAME = re.compile(r"[\w.\-]+")
_MISTRAL_HEAD = re.compile(r"([\w.\-]+)\s*(?:\[CALL_ID\]\s*\w+\s*)?(?:\[ARGS\])?\s*(?=\{)")
_MISTRAL_BEGUN = re.compile(r"[\w.\-]+\s*(?:\[CALL_ID\]\s*\w*\s*)?(?:\[(?:[A-Z_]*\]?)?)?\s*")
_DEEPSEEK_HEAD = re.compile(r"(?:function<｜tool▁sep｜>([\w.\-]+)\s*```json\s*|([\w.\-]+)<｜tool▁sep｜>\s*)(?=\{)")
_SEPARATOR = "<｜tool▁sep｜>"
_DEEPSEEK_REST = re.compile(r"\s*|[\w.\-]*\s*(?:`{1,3}|```j(?:s(?:on?)?)?\s*)?")
_DEEPSEEK_CALL = "<｜tool▁call▁begin｜>"
_FENCE = "```"
_LONGEST = 512  # characters of a head; a longer one is content
_ALPHABET = string.ascii_letters + string.digits


class Parser(Protocol):
    """Takes one answer apart."""

    def feed(self, text: str) -> list[Event]:
        """The events that are certain with more text."""

    def finish(self) -> list[Event]:
        """The last events, after the last text."""


def call_id(style: ToolStyle | None = None) -> str:
    """A new id of a call; of 9 letters and digits for Mistral, whose templates refuse others."""
    if style is not None and style.family == "mistral":
        return "".join(secrets.choice(_ALPHABET) for _ in range(9))
    return f"call_{secrets.token_hex(12)}"


class Emitter:
    """Collects events; texts of the same kind become one."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._events: list[Event] = []
        self.calls = 0

    def take(self) -> list[Event]:
        """The events since the last call of this method."""
        found, self._events = self._events, []
        return found

    def content(self, text: str) -> None:
        """More text."""
        if text:
            last = self._events[-1] if self._events else None
            if isinstance(last, Content):
                self._events[-1] = Content(last.text + text)
            else:
                self._events.append(Content(text))

    def reasoning(self, text: str) -> None:
        """More reasoning."""
        if text:
            self._events.append(Reasoning(text))

    def begin(self, name: str) -> None:
        """A call begins."""
        self._events.append(CallBegun(self.calls, self._new_id(), name))

    def arguments(self, text: str) -> None:
        """More arguments of the call."""
        if text:
            self._events.append(CallArguments(self.calls, text))

    def end(self, complete: bool, raw: str = "") -> None:
        """The call ends."""
        self._events.append(CallEnded(self.calls, complete, "" if complete else raw))
        self.calls += 1


class AnswerParser:
    """The parser of all families but harmony.

    Args:
        tools: how calls are written; None: no text is a call.
        reasoning: marks around reasoning; None: no text is reasoning.
        names: of the tools, or their names with the JSON schemas of their arguments, by which values that are written
            as texts are read; a call of another name is content. None: any name.
        in_reasoning: the prompt ends with the mark that begins reasoning.
    """

    def __init__(
        self,
        tools: ToolStyle | None,
        reasoning: ReasoningStyle | None = None,
        names: Collection[str] | None = None,
        *,
        in_reasoning: bool = False,
    ) -> None:
        self._tools, self._marks, self._names = tools, reasoning, names
        self._out = Emitter(lambda: call_id(tools))
        self._buffer = ""
        self._space = ""  #: at the end of the content so far, which is dropped before a call
        self._raw = ""  #: of the call that is read, or of its mark
        self._call: CallReader | None = None
        self._object: JsonScanner | None = None  #: arguments whose name came before them
        self._begun = False  #: the event of the current call was given
        self._in_list = False
        self._bare = False
        self._after_reasoning = False
        self._drops = (*(tools.drops if tools else ()), *(reasoning.drops if reasoning else ()))
        self._elements: Elements | None = None  #: of a call in XML
        self._state: Callable[[bool], bool] = self._start
        if in_reasoning and reasoning is not None:
            self._state = self._before_reasoning

    def feed(self, text: str) -> list[Event]:
        """See :class:`Parser`."""
        self._buffer += text
        while self._state(False):
            pass
        return self._out.take()

    def finish(self) -> list[Event]:
        """See :class:`Parser`."""
        while self._state(True):
            pass
        return self._out.take()

    # Each state reads from the buffer, and returns whether the next one can go on; at the end of the answer, `last`.

    def _start(self, last: bool) -> bool:
        """White space, and then reasoning, a call without a mark, or content."""
        rest = self._buffer.lstrip()
        if not rest and not last:
            return False
        if self._marks is not None and not self._after_reasoning:
            if rest.startswith(self._marks.opens):
                self._buffer = rest[len(self._marks.opens) :]
                self._state = self._before_reasoning
                return True
            if not last and self._marks.opens.startswith(rest):
                return False
        if self._after_reasoning:
            self._buffer = rest
        if self._tools is not None and self._tools.bare and rest.startswith("{"):
            self._raw = self._buffer[: len(self._buffer) - len(rest)]
            self._buffer, self._bare = rest, True
            self._state = self._body
            return True
        self._state = self._content
        return True

    def _before_reasoning(self, last: bool) -> bool:
        self._buffer = self._buffer.lstrip()
        if not self._buffer and not last:
            return False
        self._state = self._reasoning
        return True

    def _reasoning(self, last: bool) -> bool:
        assert self._marks is not None
        before, mark, after = self._buffer.partition(self._marks.closes)
        if mark:
            self._out.reasoning(before.rstrip())
            self._buffer, self._after_reasoning = after, True
            self._state = self._start
            return True
        held = 0 if last else begun(self._buffer, (self._marks.closes,))
        certain = self._buffer[: len(self._buffer) - held].rstrip()
        self._out.reasoning(certain)
        self._buffer = self._buffer[len(certain) :]
        if last:
            self._buffer, self._state = "", self._end
        return False

    def _content(self, last: bool) -> bool:
        opens = () if self._tools is None else self._tools.opens
        marks = (*opens, *self._drops)
        found = [(place, -len(mark), mark) for mark in marks if (place := self._buffer.find(mark)) >= 0]
        if found:
            place, _, mark = min(found)
            self._text(self._buffer[:place])
            self._buffer = self._buffer[place + len(mark) :]
            if mark not in self._drops:
                list_follows = mark.endswith("[")
                self._raw = self._space + (mark[:-1] if list_follows else mark)
                self._space = ""
                self._buffer = ("[" if list_follows else "") + self._buffer
                self._state = self._body
            return True
        held = 0 if last else begun(self._buffer, marks)
        self._text(self._buffer[: len(self._buffer) - held])
        self._buffer = self._buffer[len(self._buffer) - held :]
        if self._tools is None or (last and (self._out.calls == 0 or not self._after_call)):
            self._out.content(self._space)
            self._space = ""
        return False

    _after_call = False  #: nothing but white space came since the last call

    def _text(self, text: str) -> None:
        """Content, whose last white space waits."""
        whole = self._space + text
        kept = whole.rstrip()
        if kept:
            self._out.content(kept)
            self._after_call = False
        self._space = whole[len(kept) :]

    def _body(self, last: bool) -> bool:
        """After a mark: a call, a list of calls, or a name with arguments."""
        assert self._tools is not None
        rest = self._skip()
        if not rest:
            return self._give_up() if last else False
        if self._tools.xml is not None:
            self._elements, self._state = Elements(self._tools.xml, self._names), self._in_elements
            return True
        if self._tools.family == "deepseek":
            return self._named(rest, last)
        if rest[0] == "[" and not self._in_list and not (self._bare or self._is_python(rest)):
            self._consume(1)
            self._in_list, self._state = True, self._item
            return True
        if rest[0] == "{":
            self._call = CallReader(self._names, needs_arguments=self._bare and self._names is None)
            self._state = self._in_call
            return True
        if self._tools.family == "mistral":
            return self._named(rest, last)
        if self._tools.family == "gemma":
            return self._python(rest, last)
        return self._give_up()

    def _is_python(self, rest: str) -> bool:
        """Whether a list in a fence is one of Python calls."""
        return self._tools is GEMMA and not rest[1:].lstrip().startswith("{")

    def _item(self, last: bool) -> bool:
        """Within a list: a call, or the end."""
        rest = self._skip()
        if not rest:
            return self._give_up() if last else False
        if rest[0] == "]":
            self._consume(1)
            self._in_list, self._state = False, self._between
            return True
        if rest[0] != "{":
            return self._give_up()
        self._call = CallReader(self._names)
        self._state = self._in_call
        return True

    def _named(self, rest: str, last: bool) -> bool:
        """A name, and then arguments."""
        deepseek = self._tools is not None and self._tools.family == "deepseek"
        if deepseek and (rest.startswith(_DEEPSEEK_CALL) or (not last and _DEEPSEEK_CALL.startswith(rest))):
            self._consume(len(_DEEPSEEK_CALL) if rest.startswith(_DEEPSEEK_CALL) else 0)
            return rest.startswith(_DEEPSEEK_CALL)
        found = (_DEEPSEEK_HEAD if deepseek else _MISTRAL_HEAD).match(rest)
        if found is None:
            begins = _deepseek_begins(rest) if deepseek else bool(_MISTRAL_BEGUN.fullmatch(rest))
            if not last and begins and len(rest) < _LONGEST:
                return False
            return self._give_up()
        name = found[1] or found[found.lastindex or 1]
        if self._names is not None and name not in self._names:
            return self._give_up()
        self._consume(found.end())
        self._out.begin(name)
        self._begun, self._object, self._state = True, JsonScanner(), self._in_object
        return True

    def _in_elements(self, last: bool) -> bool:
        """A call in XML."""
        elements = self._elements
        assert elements is not None
        used, given = elements.feed(self._buffer, last)
        self._consume(used)
        if elements.name is not None and not self._begun:
            self._out.begin(elements.name)
            self._begun = True
        self._out.arguments(given)
        if elements.done:
            return self._done()
        return self._give_up() if elements.failed else False

    def _python(self, rest: str, last: bool) -> bool:
        place = rest.find(_FENCE)
        if place < 0 and not last:
            return False
        calls = python_calls(rest[:place] if place >= 0 else rest, self._names)
        if calls is None:
            return self._give_up()
        for name, arguments in calls:
            self._out.begin(name)
            self._out.arguments(json.dumps(arguments, ensure_ascii=False))
            self._out.end(True)
        self._consume(place if place >= 0 else len(rest))
        self._state = self._between
        return True

    def _in_object(self, last: bool) -> bool:
        """The arguments of a call whose name came before them."""
        scanner = self._object
        assert scanner is not None
        for place, character in enumerate(self._buffer):
            try:
                self._out.arguments(scanner.feed(character))
            except ValueError:
                self._consume(place)
                return self._give_up()
            if scanner.done:
                self._consume(place + 1)
                return self._done()
        self._consume(len(self._buffer))
        return self._give_up() if last else False

    def _in_call(self, last: bool) -> bool:
        call = self._call
        assert call is not None
        for place, character in enumerate(self._buffer):
            try:
                call.feed(character)
            except ValueError:
                self._consume(place)
                return self._give_up()
            if call.done:
                self._consume(place + 1)
                self._give(call)
                return self._done()
        self._consume(len(self._buffer))
        self._give(call)
        if not last:
            return False
        if self._begun and call.ended:  # only the end of the object is missing
            return self._done()
        return self._give_up()

    def _give(self, call: CallReader) -> None:
        if call.is_call:
            if not self._begun:
                assert call.name is not None
                self._out.begin(call.name)
                self._begun = True
            self._out.arguments(call.take())

    def _done(self) -> bool:
        self._out.end(True)
        self._raw, self._begun, self._after_call = "", False, True
        self._call = self._object = self._elements = None
        self._state = self._after_item if self._in_list else self._between
        return True

    def _after_item(self, last: bool) -> bool:
        rest = self._skip()
        if not rest:
            return self._give_up() if last else False
        if rest[0] in ",]":
            self._in_list = rest[0] == ","
            self._consume(1)
            self._raw = ""
            self._state = self._item if self._in_list else self._between
            return True
        return self._give_up()

    def _between(self, last: bool) -> bool:
        """After a call: the mark that ends it, another call, or content."""
        assert self._tools is not None
        self._after_call = True
        rest = self._buffer.lstrip()
        for mark in self._tools.closes:
            if rest.startswith(mark):
                self._buffer, self._raw = rest[len(mark) :], ""
                self._state, self._bare = self._content, False
                return True
        if not last and (not rest or any(mark.startswith(rest) for mark in self._tools.closes)):
            return False
        if self._bare or self._tools.bare:
            separated = rest.removeprefix(";").lstrip()
            if separated.startswith("{"):
                self._raw, self._buffer = self._buffer[: len(self._buffer) - len(separated)], separated
                self._bare = True
                self._state = self._body
                return True
            if not last and not separated:
                return False
        self._bare = False
        self._state = self._content
        return True

    def _give_up(self) -> bool:
        """What was read is content, or the call that has begun is broken."""
        if self._begun:
            self._out.end(False, self._raw)
            self._raw = ""
        else:
            raw, self._raw = self._raw, ""
            if raw:
                self._out.content(raw.rstrip() if not self._buffer else raw)
                self._space = raw[len(raw.rstrip()) :] if not self._buffer else ""
                self._after_call = False
        self._call = self._object = self._elements = None
        self._begun = self._in_list = self._bare = False
        self._state = self._content
        return True

    def _end(self, last: bool) -> bool:
        return False

    def _skip(self) -> str:
        """The buffer without white space at its beginning."""
        rest = self._buffer.lstrip()
        self._consume(len(self._buffer) - len(rest))
        return rest

    def _consume(self, count: int) -> None:
        self._raw += self._buffer[:count]
        self._buffer = self._buffer[count:]


def _deepseek_begins(text: str) -> bool:
    """Whether a text may be the beginning of a call of DeepSeek: a name, a mark, and what comes before an object."""
    name = _NAME.match(text)
    rest = text[name.end() :] if name else text
    if not rest.startswith(_SEPARATOR):
        return _SEPARATOR.startswith(rest)
    return _DEEPSEEK_REST.fullmatch(rest[len(_SEPARATOR) :]) is not None
