"""Work that goes on after the terminal closes: started, listed, followed, cancelled.

A job is one gpux command in a process of its own session, and a folder below ``settings.home/jobs`` that tells of it
(:mod:`gpux.jobs.job` draws the layout). Nothing runs beside the jobs themselves: no daemon, no socket.
"""

from __future__ import annotations

from gpux.jobs.control import cancel, clear, find, follow, follow_each, jobs, remove, start
from gpux.jobs.job import Job, JobProgress, JobStatus

__all__ = [
    "Job",
    "JobProgress",
    "JobStatus",
    "cancel",
    "clear",
    "find",
    "follow",
    "follow_each",
    "jobs",
    "remove",
    "start",
]
