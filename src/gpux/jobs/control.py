"""Starting, listing, following, cancelling and removing jobs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from gpux.errors import CorruptFileError, GpuxError, JobNotFoundError, UsageError
from gpux.jobs.events import EventReader, without_outdated_counts
from gpux.jobs.job import Job, JobFolder, read_job
from gpux.jobs.process import is_alive, is_elsewhere, signal_group
from gpux.system.cancel import CancelToken
from gpux.system.disk import disk_errors
from gpux.system.progress import Event, ProgressCallback
from gpux.system.settings import Settings

#: Seconds that a job has to end after a signal before the next, stronger signal is sent.
GRACE = 10.0
_POLL = 0.1  # seconds between two reads of a job's state
_RESERVE = 64 * 1024  # bytes reserved on the disk for the result
_LETTERS = "bcdfghjkmnpqrstvwxz"  # no vowels, so that an id never spells a word
_DIGITS = "23456789"
_started: list[subprocess.Popen[bytes]] = []  # Windows only: avoids the ResourceWarning for a process without wait()


def start(arguments: Sequence[str], settings: Settings | None = None, *, models: Sequence[str] = ()) -> Job:
    """Run ``gpux ARGUMENTS --json`` in a process that outlives this one, its terminal and its session.

    The job inherits the environment and the working directory; neither is stored. It cannot ask for confirmation: pass
    ``--yes`` where a command would.

    Args:
        arguments: as on the command line, ``["pull", "org/name"]``; ``--detach`` and ``--json`` are removed.
        settings: settings of the job; default: those of the environment.
        models: the references among the arguments, shown in the list of jobs.

    Raises:
        UsageError: the arguments contain no command.
        NotWritableError: no permission to write ``settings.home``.
        DiskFullError: no space is left for the job's files.
        GpuxError: the process ended before the command began; the message has its last line of output.
    """
    chosen = settings or Settings.from_env()
    command = [word for word in arguments if word not in ("--detach", "--json")]
    if all(word.startswith("-") for word in command):
        raise UsageError("the arguments contain no command", hint='Pass the whole command: ["pull", "org/name"].')
    folder = _make_folder(chosen.home / "jobs")
    process = _launch(folder, command, list(models), chosen)
    while process.poll() is None and not folder.job.exists():
        time.sleep(0.01)
    _detach(process)
    if not folder.job.exists():
        raise _start_error(folder)
    return read_job(folder.root)


def jobs(settings: Settings | None = None) -> list[Job]:
    """All jobs, the oldest first; jobs with damaged files are omitted."""
    found = []
    for root in _folders(settings):
        with contextlib.suppress(JobNotFoundError, CorruptFileError):
            found.append(read_job(root))
    return sorted(found, key=lambda job: (job.started, job.id))


def find(id: str, settings: Settings | None = None) -> Job:
    """The current state of a job.

    Raises:
        JobNotFoundError: no job has this id.
        CorruptFileError: its files are damaged.
    """
    root = (settings or Settings.from_env()).home / "jobs"
    if not re.fullmatch("[a-z0-9]+", id):  # the id becomes a folder name
        raise JobNotFoundError(f"no job {id!r}", hint="`gpux jobs` lists them.")
    return read_job(root / id)


def follow(job: Job, callback: ProgressCallback, cancel: CancelToken | None = None) -> Job:
    """Call ``callback`` with every event of the job, from the first, until the job ends; returns the ended job.

    Byte counts that are already outdated are skipped. For a job of several models, :func:`follow_each` also passes the
    reference of each event.

    Raises:
        CancelledError: the token was set; the job continues.
        JobNotFoundError: another process removed the job.
    """
    return follow_each(job, lambda label, event: callback(event), cancel)


def follow_each(job: Job, callback: Callable[[str, Event], None], cancel: CancelToken | None = None) -> Job:
    """Like :func:`follow`, with the reference of each event as first argument; empty in a job of one model.

    Raises:
        CancelledError: the token was set; the job continues.
        JobNotFoundError: another process removed the job.
    """
    token = cancel or CancelToken()
    reader = EventReader(JobFolder(job.folder).events)
    while True:
        current = read_job(job.folder)  # read before the events, so that an ended job has all its events
        for record in without_outdated_counts(reader.read()):
            token.check()
            callback(record.label, record.event)
        if not current.running:
            return current
        token.wait(_POLL)
        token.check()


def cancel(job: Job, *, grace: float = GRACE) -> Job:
    """Cancel a job with SIGINT, then SIGTERM, then SIGKILL; returns the ended job. Downloaded bytes are kept.

    Each signal gets ``grace`` seconds. A job that has ended is returned unchanged.

    Raises:
        UsageError: the job runs on another machine, or belongs to another user.
        JobNotFoundError: the job was removed.
    """
    current = read_job(job.folder)
    if not current.running:
        return current
    if is_elsewhere(current.process):
        host = current.process.host
        raise UsageError(f"job {job.id} runs on {host}", hint=f"Run `gpux jobs cancel {job.id}` there.")
    with contextlib.suppress(OSError):  # disk full: signals work without the file
        JobFolder(job.folder).cancelled.touch()
    for number in _escalation():
        signal_group(current.process, number)
        if _wait_for_end(current, grace):
            break
    return read_job(job.folder)


def remove(job: Job) -> None:
    """Delete a job's folder; pulled models are kept.

    Raises:
        UsageError: the job is running on this machine.
        JobNotFoundError: the job was removed already.
        NotWritableError: no permission to delete the folder.
    """
    current = read_job(job.folder)
    if current.running and not is_elsewhere(current.process):
        raise UsageError(f"job {job.id} is running", hint=f"Run `gpux jobs cancel {job.id}` first.")
    away = job.folder.with_name(f".{job.id}.removed")  # one rename removes it from the list
    with disk_errors(job.folder), contextlib.suppress(FileNotFoundError):  # another process removed it
        job.folder.rename(away)
        shutil.rmtree(away)


def clear(settings: Settings | None = None, ids: Iterable[str] = ()) -> list[Job]:
    """Remove the jobs of these ids, by default all ended jobs; returns the removed jobs.

    A job of another machine, whose state is unknown here, is removed only by its id.

    Raises:
        JobNotFoundError: one of the ids does not exist.
        UsageError: one of the jobs is running.
        NotWritableError: no permission to delete a folder.
    """
    named = [find(id, settings) for id in ids]
    ended = named or [job for job in jobs(settings) if not job.running]
    for job in ended:
        with contextlib.suppress(JobNotFoundError):
            remove(job)
    return ended


def _folders(settings: Settings | None) -> list[Path]:
    root = (settings or Settings.from_env()).home / "jobs"
    with disk_errors(root):
        found = list(root.iterdir()) if root.is_dir() else []
    return [folder for folder in found if folder.name[0] != "." and folder.is_dir()]


def _make_folder(jobs: Path) -> JobFolder:
    """Create the folder of a new job with mode 0700 and reserve disk space for its result."""
    with disk_errors(jobs):
        jobs.mkdir(parents=True, exist_ok=True)
        while True:
            root = jobs.absolute() / "".join(map(secrets.choice, (_LETTERS, _LETTERS, _DIGITS, _DIGITS, _LETTERS)))
            with contextlib.suppress(FileExistsError):  # the id is in use
                root.mkdir(mode=0o700)
                break
        folder = JobFolder(root)
        try:
            folder.reserve.write_bytes(os.urandom(_RESERVE))  # zeros would reserve nothing on a compressing file system
        except OSError:
            shutil.rmtree(root, ignore_errors=True)
            raise
        return folder


def _launch(folder: JobFolder, command: list[str], models: list[str], settings: Settings) -> subprocess.Popen[bytes]:
    # -P: do not import a gpux.py of the working directory
    program = [sys.executable, "-P", "-m", "gpux.cli.job_runner", str(folder.root), json.dumps(models), *command]
    with folder.log.open("ab") as log:
        return subprocess.Popen(
            program,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_environment(settings, folder),
            **_apart(),
        )


def _environment(settings: Settings, folder: JobFolder) -> dict[str, str]:
    """The environment of this process, with the settings that differ from it."""
    environment = {**os.environ, **settings.to_env(), "GPUX_JOB_EVENTS": str(folder.events)}
    if settings.token is None:
        environment["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"  # noqa: S105 - a switch
    elif Settings.from_env(environment).token != settings.token:  # else the job finds it in the token file or key store
        environment["HF_TOKEN"] = settings.token
        environment.pop("HF_HUB_DISABLE_IMPLICIT_TOKEN", None)
    return environment


def _apart() -> dict[str, Any]:
    """Arguments of ``Popen`` for a session of its own, which neither Ctrl-C nor a closing terminal reaches."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _detach(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        _started.append(process)
    else:
        process.wait()  # the grandchild runs the job


def _start_error(folder: JobFolder) -> GpuxError:
    lines = folder.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    shutil.rmtree(folder.root, ignore_errors=True)
    return GpuxError(
        f"the background process ended before the command began: {lines[-1] if lines else 'no output'}",
        hint="Run the command without --detach.",
        log="\n".join(lines[-20:]),
    )


def _escalation() -> tuple[int, ...]:
    if sys.platform == "win32":  # the file is the first request
        return (signal.SIGINT, signal.SIGTERM)
    return (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


def _wait_for_end(job: Job, seconds: float) -> bool:
    """Wait until the process has exited, which may be later than its result was written."""
    deadline = time.monotonic() + seconds
    while is_alive(job.process):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL)
    return True
