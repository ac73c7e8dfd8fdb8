"""Background jobs: commands that continue after the terminal closes; start, list, follow and cancel them.

A job is one gpux command in a process with a session of its own, and a folder in ``settings.home/jobs`` with its state
(:mod:`gpux.jobs.job` lists the files). There is neither a daemon nor a socket.
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
