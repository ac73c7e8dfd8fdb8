from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from gpux import CancelToken, Settings, jobs
from gpux.errors import CancelledError
from gpux.jobs import Job
from gpux.system.progress import BytesAdvanced, Event
from tests.hub import Fault, HubServer

#: Lasts longer than any test; a test that needs the end of the pull does not use it.
SLOW = Fault("throttle", path="tokenizer.json", times=None, rate=20)

Start = Callable[..., Job]


@pytest.fixture
def start(settings: Settings) -> Iterator[Start]:
    """Starts a pull in the background; it is killed after the test."""

    def begin(*arguments: str, settings: Settings = settings) -> Job:
        return jobs.start(["pull", *arguments], settings, models=arguments)

    yield begin
    for job in jobs.jobs(settings):
        if job.running and job.process.host != "elsewhere":
            with suppress(ProcessLookupError):  # it has just ended
                os.killpg(job.process.pid, signal.SIGKILL)


@pytest.fixture
def slow_job(hub: HubServer, start: Start) -> Job:
    """A pull during a download that does not end."""
    hub.add_fault(SLOW)
    job = start("tiny/embed")
    token = CancelToken()

    def stop_at_bytes(event: Event) -> None:
        if isinstance(event, BytesAdvanced):
            token.cancel()

    with pytest.raises(CancelledError):
        jobs.follow(job, stop_at_bytes, token)
    return job
