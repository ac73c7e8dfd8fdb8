"""What happens to the models of a server, for everyone who listens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

#: Events that a listener may be behind; the oldest are dropped for one that does not read.
BEHIND = 1000


@dataclass(frozen=True)
class Event:
    """One change.

    ``kind`` is ``waiting`` (for memory), ``loading``, ``progress`` (of loading), ``loaded``, ``load_failed``,
    ``unloading``, ``unloaded``, ``evicted``, ``died``, ``down`` (died too often), ``pinned``, ``unpinned``,
    ``pull_started``, ``pull_ended`` or ``draining``.
    """

    kind: str
    model: str = ""  #: its name; of a pull, the reference
    time: float = field(default_factory=time.time)  #: seconds since the epoch
    details: dict[str, Any] = field(default_factory=dict)  #: JSON-able

    def to_dict(self) -> dict[str, Any]:
        """The event as JSON-able values."""
        return {"kind": self.kind, "model": self.model, "time": self.time, **self.details}


class Events:
    """Passes each event to every listener. Used in one event loop."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[Event]] = set()

    def publish(self, kind: str, model: str = "", **details: Any) -> None:
        """Pass an event to everyone who listens now; returns at once."""
        event = Event(kind, model, details=details)
        for queue in self._listeners:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)

    async def listen(self) -> AsyncGenerator[Event, None]:
        """The events from now on, without end; close the iterator to stop listening."""
        queue: asyncio.Queue[Event] = asyncio.Queue(BEHIND)
        self._listeners.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.discard(queue)
