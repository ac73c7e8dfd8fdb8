"""Events without a known end as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from gpux.errors import GpuxError
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
    waiting: asyncio.Future[Any] | None = None
    silent = 0
    try:
        while not core.draining:
            waiting = waiting or asyncio.ensure_future(anext(events, _END))
            done, _ = await asyncio.wait({waiting}, timeout=_LOOK)
            if not done:
                silent += 1
                if silent % _SILENCE == 0:
                    yield b": still here\n\n"
                continue
            silent, found, waiting = 0, waiting.result(), None
            if found is _END:
                return
            yield event(found)
        yield event({"kind": "stopping"})
    except GpuxError as error:
        from gpux.server.api.native import API

        yield event({"kind": "error", **API.error_body(error, API.statuses(error))})
    finally:
        if waiting is not None:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        await events.aclose()
