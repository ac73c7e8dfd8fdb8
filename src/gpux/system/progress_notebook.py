"""Display of progress events in a notebook: one output that is replaced in place, and that stays when it is saved."""

from __future__ import annotations

import time
from html import escape
from typing import Any

from IPython.display import HTML, display

from gpux.model.units import format_bytes
from gpux.system.progress import BytesAdvanced, Event, StageFinished, StageStarted, Warned

#: Least seconds between two updates of a bar: each is a message to the browser.
_INTERVAL = 0.2
_LINE = "white-space:pre-wrap;margin:0;line-height:1.4"
_FAINT = "opacity:.6"


class NotebookDisplay:
    """A callback for ``progress=``: a line for each finished stage, and a bar for the one that runs."""

    def __init__(self) -> None:
        self._lines: list[str] = []  #: HTML
        self._stage = ""
        self._advanced: BytesAdvanced | None = None
        self._handle: Any = None
        self._drawn = 0.0

    def __call__(self, event: Event) -> None:
        """Draw one event; events of one thread at a time."""
        match event:
            case StageStarted():
                self._stage, self._advanced = event.message, None
            case BytesAdvanced():
                self._advanced = event
                if time.monotonic() - self._drawn < _INTERVAL:
                    return
            case StageFinished():
                self._stage, self._advanced = "", None
                if event.message:
                    took = f' <span style="{_FAINT}">({event.seconds:.1f} s)</span>' if event.seconds >= 0.05 else ""
                    self._lines.append(f'<span style="color:green">✓</span> {escape(event.message)}{took}')
            case Warned():
                self._lines.append(f'<span style="color:darkorange">!</span> {escape(event.message)}')
        self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        lines = [*self._lines, self._running()] if self._stage else self._lines
        html = HTML("".join(f'<pre style="{_LINE}">{line}</pre>' for line in lines))
        if self._handle is None:
            self._handle = display(html, display_id=True)
        else:
            self._handle.update(html)

    def _running(self) -> str:
        found = self._advanced
        if found is None:
            return f"{escape(self._stage)} …"
        if not found.total:
            return f"{escape(self._stage)} {format_bytes(found.done)}"
        done = f"{format_bytes(found.done)} of {format_bytes(found.total)}"
        return f'{escape(self._stage)} <progress value="{found.done}" max="{found.total}"></progress> {done}'
