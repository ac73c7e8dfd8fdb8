"""What a parser finds in an answer, piece by piece, and the answer that the pieces make."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Content:
    """More text of the answer."""

    text: str


@dataclass(frozen=True)
class Reasoning:
    """More text of what the model thought before its answer."""

    text: str


@dataclass(frozen=True)
class CallBegun:
    """A call of a tool begins."""

    index: int  #: of the call in the answer, from 0
    id: str
    name: str


@dataclass(frozen=True)
class CallArguments:
    """More text of a call's arguments, which together are a JSON object."""

    index: int
    text: str


@dataclass(frozen=True)
class CallEnded:
    """A call has ended."""

    index: int
    complete: bool  #: the arguments are a whole JSON object
    raw: str = ""  #: of a call that is not complete, as the model wrote it


Event = Content | Reasoning | CallBegun | CallArguments | CallEnded


@dataclass
class ToolCall:
    """One call of an answer."""

    id: str
    name: str
    arguments: str = ""  #: JSON text of an object
    complete: bool = False
    raw: str = ""  #: of a call that is not complete, as the model wrote it


@dataclass
class Answer:
    """An answer in its parts."""

    content: str = ""
    reasoning: str = ""
    calls: list[ToolCall] = field(default_factory=list)

    @classmethod
    def of(cls, events: Iterable[Event], *, truncated: bool = False) -> Answer:
        """The answer of all events.

        A call whose arguments are not JSON becomes content, unless the answer was cut by its length: such a call stays
        with the arguments so far.
        """
        found, by_index = cls(), dict[int, ToolCall]()
        for event in events:
            if isinstance(event, Content):
                found.content += event.text
            elif isinstance(event, Reasoning):
                found.reasoning += event.text
            elif isinstance(event, CallBegun):
                by_index[event.index] = ToolCall(event.id, event.name)
            elif isinstance(event, CallArguments):
                by_index[event.index].arguments += event.text
            else:
                by_index[event.index].complete, by_index[event.index].raw = event.complete, event.raw
                if not event.complete and not truncated:
                    del by_index[event.index]
                    found.content += event.raw
        found.calls = list(by_index.values())
        return found
