"""The server itself: version and state, disk, devices, its events, its end."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import psutil
from starlette.background import BackgroundTask
from starlette.responses import Response

from gpux import __version__
from gpux.server.api.endpoint import Call
from gpux.server.api.native.documents import cleaned, without_places
from gpux.server.api.native.streams import live
from gpux.server.core import Core
from gpux.server.http import event_stream, json_response, until_disconnected
from gpux.system.machine import available_memory


async def get_server(call: Call) -> Response:
    """What runs: version, process, settings and memory."""
    core = call.core
    settings = core.settings
    loaded = core.models.loaded()
    document = {
        "version": __version__,
        "pid": os.getpid(),
        "started": datetime.fromtimestamp(core.started, UTC).isoformat(timespec="seconds"),
        "uptime": round(time.time() - core.started, 3),
        "state": "stopping" if core.draining else "running",
        "device": settings.device,
        "keys_needed": settings.api_keys is not None,
        "offline": settings.gpux.offline,
        "allow_pull": settings.allow_pull,
        "limits": {
            "memory": settings.max_memory,
            "models": settings.max_models,
            "queue": settings.max_queue,
            "rows": settings.max_rows,
            "body": settings.max_body,
        },
        "memory": {
            "server": int(psutil.Process().memory_info().rss),
            "models": sum(one.worker.memory_bytes() for one in loaded),
            "available": available_memory(),
        },
        "models": {"loaded": len(loaded), "stored": len(core.models.listing())},
    }
    return json_response(document)


async def disk(call: Call) -> Response:
    """Disk usage of the store and of the source cache, in bytes."""
    from gpux.upkeep.inventory import usage  # deferred, for the time of the start

    settings = call.core.settings.gpux
    found = await asyncio.to_thread(lambda: usage(settings=settings))
    return json_response(without_places(found.to_dict()))


async def doctor(call: Call) -> Response:
    """Which devices and tools of this machine gpux can use; computed in a process of its own."""
    return json_response(cleaned(await until_disconnected(call.request, call.core.commands.run(["doctor"]))))


async def events(call: Call) -> Response:
    """What happens to models and jobs from now on."""
    return event_stream(live(call.core, _events(call.core)))


async def _events(core: Core) -> AsyncGenerator[dict[str, Any], None]:
    yield {"kind": "listening", "time": time.time()}
    async with aclosing(core.events.listen()) as found:
        async for one in found:
            yield one.to_dict()


async def shutdown(call: Call) -> Response:
    """End the server when its running requests have ended, as SIGTERM does."""
    response = json_response({"stopping": True, "pid": os.getpid()}, 202)
    response.background = BackgroundTask(signal.raise_signal, signal.SIGTERM)
    return response
