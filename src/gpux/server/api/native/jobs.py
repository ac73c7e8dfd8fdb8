"""Jobs: pulls and checks of files that continue when the client, or the server, ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.responses import Response

from gpux import jobs
from gpux.jobs import Job
from gpux.model.reference import ModelRef
from gpux.server.api.endpoint import Call
from gpux.server.api.native.documents import error_document, job_document, without_places
from gpux.server.api.native.models import Name
from gpux.server.api.native.streams import live
from gpux.server.core import Core
from gpux.server.http import event_stream, json_response


class PullRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``pull``."""

    model: Name  #: of the Hub: ``org/name``, with ``@revision`` and ``:precision``
    revision: Name | None = None
    precision: Name | None = None
    task: Name | None = None
    force: bool = False  #: pull although it is stored
    stream: bool = False  #: answer with the job's events; else with the job


class VerifyRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``verify``."""

    model: Name | None = None  #: null: everything that is stored
    stream: bool = False


async def pull(call: Call) -> Response:
    """Pull a model as a job; requests for the same model at the same time get the same job."""
    body: PullRequest = call.body
    job = await call.core.pulls.start(
        body.model, precision=body.precision, revision=body.revision, task=body.task, force=body.force
    )
    return _started(call, job, stream=body.stream)


async def verify(call: Call) -> Response:
    """Compare the files of a stored model with their hashes, as a job."""
    body: VerifyRequest = call.body
    command, names = ["verify", "--store-only"], []
    if body.model is not None:
        model = call.core.models.find(body.model)
        names = [str(ModelRef(model.manifest.scheme, model.id, precision=model.manifest.precision))]
    settings = call.core.settings.gpux
    job = await asyncio.to_thread(lambda: jobs.start([*command, "--", *names], settings, models=names))
    return _started(call, job, stream=body.stream)


async def list_jobs(call: Call) -> Response:
    """The jobs of this machine's gpux, those of the command line too; the oldest first."""
    return json_response({"jobs": [job_document(job) for job in await call.core.pulls.jobs()]})


async def get_job(call: Call) -> Response:
    """One job, with its result when it has ended."""
    job = await call.core.pulls.find(call.path["id"])
    result = None
    if not job.running and job.error is None:
        result = without_places(await asyncio.to_thread(job.result))
    return json_response({**job_document(job), "result": result})


async def job_events(call: Call) -> Response:
    """The events of a job from its first one until it ends."""
    job = await call.core.pulls.find(call.path["id"])
    return event_stream(live(call.core, _events(call.core, job)))


async def cancel_job(call: Call) -> Response:
    """Cancel a job; downloaded bytes are kept."""
    return json_response(job_document(await call.core.pulls.cancel(call.path["id"])))


async def remove_job(call: Call) -> Response:
    """Remove an ended job from the list; what it pulled is kept."""
    job = await call.core.pulls.find(call.path["id"])
    await asyncio.to_thread(jobs.remove, job)
    return json_response({"removed": job.id})


def _started(call: Call, job: Job, *, stream: bool) -> Response:
    if stream:
        return event_stream(live(call.core, _events(call.core, job)))
    return json_response({"job": job_document(job)}, 202)


async def _events(core: Core, job: Job) -> AsyncGenerator[dict[str, Any], None]:
    """``job`` with its id, the events of the pull, then ``ended`` with the status and the error."""
    yield {"kind": "job", "job": job.id, "models": list(job.models)}
    async with aclosing(core.pulls.events(job.id)) as events:
        async for one in events:
            yield one
    ended = await core.pulls.find(job.id)
    error = core.pulls.error_of(ended)
    yield {
        "kind": "ended",
        "job": job.id,
        "status": ended.status,
        "error": None if error is None else error_document(error),
    }
