"""Waiting in tests for what no event reports, such as the state of another process."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

#: Seconds, longer than any test may take.
FOREVER = 3600.0
#: Seconds until a wait fails and says what it waited for.
LIMIT = 60.0
#: Seconds between two looks.
_PAUSE = 0.01


def wait_until(condition: Callable[[], object], what: object = None) -> None:
    """Wait until a condition holds.

    Args:
        condition: called again until its result is true.
        what: is waited for, or a function of the state that a failure shows; None: the source of the condition.
    """
    deadline = time.monotonic() + LIMIT
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(_failure(condition, what, found))
        time.sleep(_PAUSE)


async def until(condition: Callable[[], object | Awaitable[object]], what: object = None) -> None:
    """The same in an event loop; the condition may be asynchronous."""
    deadline = time.monotonic() + LIMIT
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return
        if time.monotonic() > deadline:
            raise AssertionError(_failure(condition, what, found))
        await asyncio.sleep(_PAUSE)


def _failure(condition: Callable[[], object], what: object, found: object) -> str:
    if callable(what):
        found = what()
    if what is None or callable(what):
        try:
            what = " ".join(inspect.getsource(condition).split())
        except OSError:
            what = condition
    return f"waited {LIMIT:g} s for: {what}\nlast state: {found!r}"
