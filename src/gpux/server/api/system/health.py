"""``/health``, ``/livez`` and ``/readyz`` with their other names."""

from __future__ import annotations

import time
from typing import Literal

import msgspec
from starlette.responses import Response

from gpux import __version__
from gpux.errors import GpuxError, OverloadedError
from gpux.server.api.endpoint import Call
from gpux.server.http import json_response
from gpux.server.security.redaction import shown


class LoadedModel(msgspec.Struct):
    """A loaded model."""

    model: str  #: ``org/name:fp32``
    task: str
    running: int  #: requests that have not ended
    alive: bool


class Health(msgspec.Struct, omit_defaults=True):
    """The state of the server; ``reasons`` says why it is not ``ok``, ``models`` needs the scope ``read``."""

    status: Literal["ok", "degraded", "stopping"]
    version: str
    uptime: float  #: seconds
    reasons: list[str]
    models: list[LoadedModel] | None = None


class Readiness(msgspec.Struct):
    """Requests are answered without a wait for the models of the start."""

    ready: bool = True


async def get_health(call: Call) -> Response:
    """Always 200: a server that answers is alive."""
    core = call.core
    found = [*reasons(call), *failures(call)]
    status: Literal["ok", "degraded", "stopping"] = "stopping" if core.draining else "degraded" if found else "ok"
    models = None
    if _may_read(call):
        models = [
            LoadedModel(one.name, one.task, one.worker.requests, one.worker.alive) for one in core.models.loaded()
        ]
    health = Health(status, __version__, round(time.time() - core.started, 3), found, models)
    return json_response(health)


async def live(call: Call) -> Response:
    """200 while the process answers."""
    return Response("ok\n", media_type="text/plain")


async def ready(call: Call) -> Response:
    """200 when the models that the settings name are loaded and the server takes requests; else 503 with reasons.

    Raises:
        OverloadedError: the server is not ready; the message has the reasons.
    """
    if found := reasons(call):
        raise OverloadedError(f"not ready: {'; '.join(found)}", hint="Wait, or see the server's log.")
    return json_response(Readiness())


def reasons(call: Call) -> list[str]:
    """Why the server is not ready; models have names for callers who may read, and are counted for others."""
    core = call.core
    found = ["the server is stopping"] if core.draining else []
    unready = core.models.unready()
    if _may_read(call):
        found += [f"{name} {why}" for name, why in unready.items()]
    elif unready:
        found.append(f"{len(unready)} of the models of the start are not loaded")
    return found


def failures(call: Call) -> list[str]:
    """Models that are not answered because their last load failed or their process died too often."""
    failed = [state for state in call.core.models.states() if state.phase in ("failed", "down")]
    if not _may_read(call):
        return [f"{len(failed)} models have failed"] if failed else []
    return [
        f"{state.name} is {state.phase}"
        if state.error is None
        else f"{state.name} is {state.phase}: {shown(state.error).message}"
        for state in failed
    ]


def _may_read(call: Call) -> bool:
    try:
        call.core.access.check(call.request, "read")
    except GpuxError:
        return False
    return True
