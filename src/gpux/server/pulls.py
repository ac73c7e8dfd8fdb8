"""Pulls that requests start: background jobs, which survive the server, followed by their events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpux import jobs
from gpux.errors import CancelledError, ForbiddenError, GpuxError, OfflineError, OverloadedError, UsageError
from gpux.jobs import Job
from gpux.jobs.events import EventReader, without_outdated_counts
from gpux.jobs.job import JobFolder, read_job
from gpux.model.reference import ModelRef
from gpux.server.events import Events
from gpux.server.stats import Stats
from gpux.system.progress import event_to_dict
from gpux.system.settings import Settings

#: Seconds between two reads of a job's events.
POLL = 0.2
#: Pulls that run at the same time, those of the command line included; each takes memory, disk and connections.
MOST = 8


class Pulls:
    """Starts pulls and follows them. Two requests for the same model share one job. Used in one event loop."""

    def __init__(self, settings: Settings, stats: Stats | None = None, events: Events | None = None) -> None:
        #: reference of a model -> the source cache for its files; None: that of the settings
        self.cache_of: Callable[[str], Path | None] = lambda ref: None
        self._settings = settings
        self._stats = stats or Stats()
        self._events = events or Events()
        self._lock = asyncio.Lock()
        self._waiting: set[asyncio.Task[None]] = set()

    async def start(
        self,
        ref: str,
        *,
        precision: str | None = None,
        revision: str | None = None,
        task: str | None = None,
        force: bool = False,
    ) -> Job:
        """Start a pull, or return the running one for the same arguments.

        Args:
            ref: a model of the Hub; neither a path nor an address, which would reach the server's disk and network.
            precision: as ``gpux pull --precision``.
            revision: branch, tag or commit.
            task: instead of the one that the model's files declare.
            force: pull although it is stored.

        Raises:
            UsageError: the reference or an argument is invalid.
            ForbiddenError: the reference does not name a model of the Hub.
            OfflineError: the server is offline.
            OverloadedError: too many pulls run already.
            StorageError: the job cannot be stored.
        """
        model = check_ref(ref)
        model = model.at(revision).in_precision(precision)
        if self._settings.offline:
            raise OfflineError("the server is offline", hint="Start it without --offline, and unset HF_HUB_OFFLINE.")
        command = ["pull", str(model), "--yes"]
        if task is not None:
            if task.startswith("-"):
                raise UsageError(f"{task!r} is not a task", param="task")
            command += ["--task", task]
        command += ["--force"] if force else []
        async with self._lock:  # two requests at once find the same job
            running = await asyncio.to_thread(self._running)
            for one in running:
                if one.arguments == tuple(command):
                    return one
            if len(running) >= MOST:
                raise OverloadedError(
                    f"{len(running)} pulls run already", hint="Start it when one has ended.", retry_after=30.0
                )
            settings = self._settings.with_overrides(hf_cache=self.cache_of(str(model)))
            job = await asyncio.to_thread(jobs.start, command, settings, models=[str(model)])
        self._stats.pulls += 1
        self._events.publish("pull_started", str(model), job=job.id)
        watcher = asyncio.create_task(self._announce_end(job))
        self._waiting.add(watcher)
        watcher.add_done_callback(self._waiting.discard)
        return job

    async def jobs(self) -> list[Job]:
        """All jobs of this ``GPUX_HOME``, those of the command line too; the oldest first."""
        return await asyncio.to_thread(jobs.jobs, self._settings)

    async def find(self, id: str) -> Job:
        """One job.

        Raises:
            JobNotFoundError: no job has this id.
        """
        return await asyncio.to_thread(jobs.find, id, self._settings)

    async def cancel(self, id: str) -> Job:
        """Cancel a job; what was downloaded is kept. An ended job is returned unchanged.

        Raises:
            JobNotFoundError: no job has this id.
        """
        return await asyncio.to_thread(jobs.cancel, await self.find(id))

    async def events(self, id: str) -> AsyncGenerator[dict[str, Any], None]:
        """The events of a job from its first one, until it ends; byte counts that are outdated are skipped.

        Each is JSON-able, with ``kind`` (``stage_started``, ``stage_finished``, ``bytes_advanced``, ``warned``) and
        ``time``. Close the iterator to stop following: the job continues.

        Raises:
            JobNotFoundError: no job has this id, or it was removed meanwhile.
        """
        job = await self.find(id)
        reader = EventReader(JobFolder(job.folder).events)
        while True:
            # The state is read before the events, so that an ended job has all its events.
            current, records = await asyncio.to_thread(lambda: (read_job(job.folder), reader.read()))
            for record in without_outdated_counts(records):
                yield {"time": record.time, **event_to_dict(record.event)}
            if not current.running:
                return
            await asyncio.sleep(POLL)

    async def wait(self, id: str) -> Job:
        """Wait for a job's end.

        Raises:
            GpuxError: the error that ended it, such as ModelNotFoundError, GatedModelError or DiskFullError.
            CancelledError: it was cancelled.
        """
        async with aclosing(self.events(id)) as events:
            async for _ in events:
                pass
        job = await self.find(id)
        if (error := self.error_of(job)) is not None:
            raise error
        return job

    def error_of(self, job: Job) -> GpuxError | None:
        """The error of an ended job without paths of this machine; None if it runs or has succeeded."""
        if job.status in ("running", "finished"):
            return None
        name = " ".join(job.models) or job.id
        if job.status == "cancelled":
            return CancelledError(
                f"the pull of {name} was cancelled", hint="Start it again: downloaded bytes are kept."
            )
        if job.error is None:
            hint = "Start it again: downloaded bytes are kept."
            return GpuxError(f"the pull of {name} ended without a result", hint=hint)
        return public(GpuxError.from_dict(job.error), self._settings)

    async def close(self) -> None:
        """Stop following; the jobs continue."""
        for task in list(self._waiting):
            task.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)

    def _running(self) -> list[Job]:
        return [job for job in jobs.jobs(self._settings) if job.running and job.arguments[:1] == ("pull",)]

    async def _announce_end(self, job: Job) -> None:
        try:
            await self.wait(job.id)
        except GpuxError as error:
            self._events.publish("pull_ended", " ".join(job.models), job=job.id, error=error.to_dict())
        else:
            self._events.publish("pull_ended", " ".join(job.models), job=job.id)


def check_ref(ref: str) -> ModelRef:
    """The reference of a model of the configured Hub.

    Raises:
        InvalidReferenceError: it is not a reference.
        ForbiddenError: it names a path, another Hub, one file or another scheme.
    """
    model = ModelRef.parse(ref)
    if model.scheme != "hf" or model.endpoint is not None or model.file is not None:
        raise ForbiddenError(
            f"{ref[:300]!r} does not name a model of the Hub",
            hint="Over HTTP, models of the Hub can be pulled: org/name, with @revision and :precision.",
        )
    return replace(model, endpoint=None)


def public(error: GpuxError, settings: Settings) -> GpuxError:
    """The error with names in place of this machine's folders."""
    places = {str(settings.home): "GPUX_HOME", str(settings.hf_cache): "HF_HUB_CACHE"}

    def clean(text: str) -> str:
        for path in sorted(places, key=len, reverse=True):
            text = text.replace(path, places[path])
        return text

    details = {name: value for name, value in error.details.items() if name not in ("log", "path")}
    hint = None if error.hint is None else clean(error.hint)
    return type(error)(clean(error.message), hint=hint, **details)
