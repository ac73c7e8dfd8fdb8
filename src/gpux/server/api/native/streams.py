"""Events without a known end as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from gpux.errors import GpuxError
from gpux.server.api.endpoint import stopping
from gpux.server.core import Core
from gpux.server.http import event

#: Seconds between two looks at whether the server is stopping.
_LOOK = 0.5
#: Looks without an event after which a comment keeps proxies from closing the connection.
_SILENCE = 30
_END: Any = object()


async def live(core: Core, events: AsyncGenerator[dict[str, Any], None]) -> AsyncIterator[bytes]:
    """The events until they end, or until the server stops, which the last event then says.

    An error of the events is the last event: ``{"kind": "error", "error": {...}}``.
    """
    silent = 0
    try:
        async with aclosing(until_stopping(core, events)) as found:
            async for one in found:
                silent = 0 if one is not None else silent + 1
                if one is not None:
                    yield event(one)
                elif silent % _SILENCE == 0:
                    yield b": still here\n\n"
    except GpuxError as error:
        from gpux.server.api.native import API

        if error.details.get("stopping"):
            yield event({"kind": "stopping"})
        else:
            yield event({"kind": "error", **API.error_body(error, API.statuses(error))})


async def until_stopping(
    core: Core, events: AsyncGenerator[dict[str, Any], None]
) -> AsyncGenerator[dict[str, Any] | None, None]:
    """The events until they end; None where there was none for :data:`_LOOK` seconds.

    Raises:
        OverloadedError: the server is stopping.
        GpuxError: that of the events.
    """
    waiting: asyncio.Future[Any] | None = None
    try:
        while not core.draining:
            waiting = waiting or asyncio.ensure_future(anext(events, _END))
            done, _ = await asyncio.wait({waiting}, timeout=_LOOK)
            if not done:
                yield None
                continue
            found, waiting = waiting.result(), None
            if found is _END:
                return
            yield found
        raise stopping()
    finally:
        if waiting is not None:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        await events.aclose()
