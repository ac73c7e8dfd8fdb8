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
from gpux.jobs.events import EventReader, without_overtaken
from gpux.jobs.job import Job, JobFolder, read_job
from gpux.jobs.process import is_alive, is_elsewhere, signal_group
from gpux.system.cancel import CancelToken
from gpux.system.disk import disk_errors
from gpux.system.progress import Event, ProgressCallback
from gpux.system.settings import Settings

#: Seconds that a job gets to end by itself before it is asked less kindly.
GRACE = 10.0
_POLL = 0.1  # seconds between looks at a job
_RESERVE = 64 * 1024  # bytes kept for the result
_LETTERS = "bcdfghjkmnpqrstvwxz"  # no vowels: an id is no word, and none that offends
_DIGITS = "23456789"
_started: list[subprocess.Popen[bytes]] = []  # Windows only: Python complains of a process that nobody waited for


def start(arguments: Sequence[str], settings: Settings | None = None, *, models: Sequence[str] = ()) -> Job:
    """Run ``gpux ARGUMENTS --json`` in a process that goes on when this one, its terminal or its session is gone.

    The environment and the working directory are inherited, never stored. What needs an answer is not asked there:
    say ``--yes`` beforehand.

    Args:
        arguments: as on the command line, ``["pull", "org/name"]``; ``--detach`` and ``--json`` are left out.
        settings: what the job uses; by default the environment's.
        models: the references in them, for the list of jobs.

    Raises:
        UsageError: there is no command in the arguments.
        NotWritableError: gpux's folder refuses.
        DiskFullError: no room in it for the job's own few files.
        GpuxError: the process ended before its work began; the message has its last words.
    """
    chosen = settings or Settings.from_env()
    command = [word for word in arguments if word not in ("--detach", "--json")]
    if all(word.startswith("-") for word in command):
        raise UsageError("there is no command to run in the background", hint='Give the whole: ["pull", "org/name"].')
    folder = _make_folder(chosen.home / "jobs")
    process = _launch(folder, command, list(models), chosen)
    while process.poll() is None and not folder.job.exists():
        time.sleep(0.01)
    _let_go(process)
    if not folder.job.exists():
        raise _never_began(folder)
    return read_job(folder.root)


def jobs(settings: Settings | None = None) -> list[Job]:
    """Every job, the oldest first; one whose files are damaged is left out."""
    found = []
    for root in _folders(settings):
        with contextlib.suppress(JobNotFoundError, CorruptFileError):
            found.append(read_job(root))
    return sorted(found, key=lambda job: (job.started, job.id))


def find(id: str, settings: Settings | None = None) -> Job:
    """The job of that id as it is now.

    Raises:
        JobNotFoundError: there is none.
        CorruptFileError: its files are damaged.
    """
    root = (settings or Settings.from_env()).home / "jobs"
    if not re.fullmatch("[a-z0-9]+", id):  # it names a folder
        raise JobNotFoundError(f"there is no job {id!r}", hint="`gpux jobs` lists them.")
    return read_job(root / id)


def follow(job: Job, callback: ProgressCallback, cancel: CancelToken | None = None) -> Job:
    """Hand over every event of the job, from its first, until it ends; the job as it ended.

    Byte counts that newer ones have replaced are left out. The job knows nothing of who follows it. Of a job that
    pulls several models, :func:`follow_each` tells them apart.

    Raises:
        CancelledError: the token was set; the job goes on.
        JobNotFoundError: it was removed meanwhile.
    """
    return follow_each(job, lambda label, event: callback(event), cancel)


def follow_each(job: Job, callback: Callable[[str, Event], None], cancel: CancelToken | None = None) -> Job:
    """:func:`follow` with the reference that each event belongs to; an empty one in a job of one model.

    Raises:
        CancelledError: the token was set; the job goes on.
        JobNotFoundError: it was removed meanwhile.
    """
    token = cancel or CancelToken()
    reader = EventReader(JobFolder(job.folder).events)
    while True:
        current = read_job(job.folder)  # before the events: what it said before its end is then among them
        for record in without_overtaken(reader.read()):
            token.check()
            callback(record.label, record.event)
        if not current.running:
            return current
        token.wait(_POLL)
        token.check()


def cancel(job: Job, *, grace: float = GRACE) -> Job:
    """End a job: asked as with Ctrl-C, then asked again, then killed; the job as it ended. What had arrived is kept.

    Each step gets ``grace`` seconds. A job that has ended is left as it is.

    Raises:
        UsageError: it runs on another machine, or is another user's.
        JobNotFoundError: it was removed.
    """
    current = read_job(job.folder)
    if not current.running:
        return current
    if is_elsewhere(current.process):
        host = current.process.host
        raise UsageError(f"job {job.id} runs on {host}", hint=f"Run `gpux jobs cancel {job.id}` there.")
    with contextlib.suppress(OSError):  # a full disk: the signals work without
        JobFolder(job.folder).cancelled.touch()
    for number in _escalation():
        signal_group(current.process, number)
        if _is_gone(current, grace):
            break
    return read_job(job.folder)


def remove(job: Job) -> None:
    """Delete a job's folder; the models that it brought stay.

    Raises:
        UsageError: it runs, here.
        JobNotFoundError: it was removed already.
        NotWritableError: the folder refuses.
    """
    current = read_job(job.folder)
    if current.running and not is_elsewhere(current.process):
        raise UsageError(f"job {job.id} runs", hint=f"Run `gpux jobs cancel {job.id}` first.")
    away = job.folder.with_name(f".{job.id}.removed")  # in one step it is in no list any more
    with disk_errors(job.folder), contextlib.suppress(FileNotFoundError):  # another process was faster
        job.folder.rename(away)
        shutil.rmtree(away)


def clear(settings: Settings | None = None, ids: Iterable[str] = ()) -> list[Job]:
    """Remove the jobs of these ids, by default all that have ended; those that were removed.

    A job that seems to run on another machine is removed only by its id.

    Raises:
        JobNotFoundError: there is no job of one of the ids.
        UsageError: one of them runs.
        NotWritableError: a folder refuses.
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
    """A folder of a new id, for this user alone, with room in it for the end of the job."""
    with disk_errors(jobs):
        jobs.mkdir(parents=True, exist_ok=True)
        while True:
            root = jobs.absolute() / "".join(map(secrets.choice, (_LETTERS, _LETTERS, _DIGITS, _DIGITS, _LETTERS)))
            with contextlib.suppress(FileExistsError):  # another start, or an older job, has it
                root.mkdir(mode=0o700)
                break
        folder = JobFolder(root)
        try:
            folder.reserve.write_bytes(os.urandom(_RESERVE))  # zeros take no room where the disk compresses
        except OSError:
            shutil.rmtree(root, ignore_errors=True)
            raise
        return folder


def _launch(folder: JobFolder, command: list[str], models: list[str], settings: Settings) -> subprocess.Popen[bytes]:
    # -P: a gpux.py in the working directory is not us
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
    """This process's own, and what of the settings differs from it."""
    # Handed on, not read: what it means to gpux is Settings' business.
    handed = {**os.environ, **settings.to_env(), "GPUX_JOB_EVENTS": str(folder.events)}
    if settings.token is None:
        handed["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"  # noqa: S105 - a switch
    elif Settings.from_env(handed).token != settings.token:  # a file or a key store tells it to the job as well
        handed["HF_TOKEN"] = settings.token
        handed.pop("HF_HUB_DISABLE_IMPLICIT_TOKEN", None)
    return handed


def _apart() -> dict[str, Any]:
    """A session of its own: neither Ctrl-C nor the end of the terminal reaches it."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _let_go(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        _started.append(process)
    else:
        process.wait()  # its child does the work


def _never_began(folder: JobFolder) -> GpuxError:
    said = folder.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    shutil.rmtree(folder.root, ignore_errors=True)
    return GpuxError(
        f"the background process ended before its work began: {said[-1] if said else 'it said nothing'}",
        hint="Run the command without --detach.",
        log="\n".join(said[-20:]),
    )


def _escalation() -> tuple[int, ...]:
    if sys.platform == "win32":  # the file asked it already
        return (signal.SIGINT, signal.SIGTERM)
    return (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


def _is_gone(job: Job, seconds: float) -> bool:
    """Wait for the process itself, which may have something to do after it wrote its end."""
    deadline = time.monotonic() + seconds
    while is_alive(job.process):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL)
    return True
