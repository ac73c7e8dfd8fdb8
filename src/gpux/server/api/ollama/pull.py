"""``/api/pull``: a job whose progress is written line by line."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.responses import Response

from gpux.errors import UsageError
from gpux.jobs import Job
from gpux.server.api.endpoint import Call
from gpux.server.api.native.streams import until_stopping
from gpux.server.api.ollama.generation import error_line
from gpux.server.api.ollama.names import Named
from gpux.server.core import Core
from gpux.server.http import json_response, line, line_stream, until_disconnected


class PullRequest(Named, kw_only=True, forbid_unknown_fields=True):
    """The body of a request."""

    stream: bool | None = None
    insecure: bool | None = None
    username: str | None = None
    password: str | None = None


async def pull(call: Call) -> Response:
    """Pull a model of the Hub; the pull continues when the client leaves."""
    body: PullRequest = call.body
    for name in ("insecure", "username", "password"):
        if getattr(body, name):
            raise UsageError(
                f"{name} is not supported", hint="The server's own token and settings are used.", param=name
            )
    job = await call.core.pulls.start(body.chosen)
    if body.stream is False:
        await until_disconnected(call.request, call.core.pulls.wait(job.id))
        call.core.models.store_changed()
        return json_response({"status": "success"})
    return line_stream(_lines(call.core, job), on_error=error_line)


async def _lines(core: Core, job: Job) -> AsyncGenerator[bytes, None]:
    yield line({"status": "pulling manifest"})
    # A server that stops says so in the last line; the pull continues.
    async with aclosing(until_stopping(core, core.pulls.events(job.id))) as events:
        async for event in events:
            if event is not None and (found := _progress(event)) is not None:
                yield line(found)
    await core.pulls.wait(job.id)
    core.models.store_changed()
    yield line({"status": "success"})


def _progress(event: dict[str, Any]) -> dict[str, Any] | None:
    """A line for an event of the job. Bytes have a ``digest``, by which clients find the bar that they belong to."""
    if event["kind"] == "bytes_advanced":
        name = f"pulling {event['stage']}"
        counts = {"digest": event["stage"], "total": event["total"], "completed": event["done"]}
        return {"status": name, **counts} if event["total"] else {"status": name}
    if event["kind"] == "stage_started":
        return {"status": event["message"]}
    return None
