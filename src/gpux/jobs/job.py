"""One job as a value, and where its parts lie.

::

    jobs/<id>/job.json        what was started, when, and as which process; there from the first instant of its work
    jobs/<id>/events.jsonl    progress events, one a line, each with its time
    jobs/<id>/log             what it printed on standard error
    jobs/<id>/cancelled       empty: somebody asked it to end
    jobs/<id>/result.json     what ``--json`` prints, an error document included
    jobs/<id>/exit.json       exit code and time of the end; written last
    jobs/<id>/reserve         room on the disk for the last two

Small files are written under another name and renamed, so that a reader sees all of them or nothing.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from gpux.errors import CorruptFileError, JobNotFoundError
from gpux.jobs.events import Record, last_records
from gpux.jobs.process import ProcessMark, is_alive, is_elsewhere
from gpux.model.info import read_json
from gpux.model.values import Value
from gpux.system.disk import sync_file
from gpux.system.progress import BytesAdvanced, StageFinished, StageStarted

JobStatus = Literal["running", "finished", "failed", "cancelled", "lost"]

INTERRUPTED = 130  #: what a command ends with that was told to stop


@dataclass(frozen=True)
class JobFolder:
    """The paths of one job; touches no disk."""

    root: Path

    @property
    def job(self) -> Path:
        """What was started."""
        return self.root / "job.json"

    @property
    def events(self) -> Path:
        """Progress events."""
        return self.root / "events.jsonl"

    @property
    def log(self) -> Path:
        """What it printed on standard error."""
        return self.root / "log"

    @property
    def cancelled(self) -> Path:
        """There once it was asked to end."""
        return self.root / "cancelled"

    @property
    def result(self) -> Path:
        """What ``--json`` prints."""
        return self.root / "result.json"

    @property
    def exit(self) -> Path:
        """How and when it ended."""
        return self.root / "exit.json"

    @property
    def reserve(self) -> Path:
        """Given back to the disk just before the end is written."""
        return self.root / "reserve"


@dataclass(frozen=True)
class JobProgress(Value):
    """Where a job was when it last said so."""

    stage: str
    message: str
    done: int  #: bytes of the stage
    total: int  #: 0: not known, or nothing that is counted in bytes
    time: str
    label: str = ""  #: which model, in a job that pulls several


@dataclass(frozen=True)
class Job(Value):
    """A command that runs, or ran, on its own."""

    id: str
    folder: Path
    arguments: tuple[str, ...]  #: of gpux: ``("pull", "org/name")``
    models: tuple[str, ...]  #: the references among them, as the user wrote them
    started: str  #: UTC, ISO 8601
    version: str  #: of gpux
    process: ProcessMark
    status: JobStatus
    ended: str | None = None  #: None while it runs, and where it could not say
    exit_code: int | None = None
    error: dict[str, Any] | None = None  #: ``GpuxError.to_dict()`` of what made it fail
    progress: JobProgress | None = None

    @property
    def running(self) -> bool:
        """True until it ended, one way or another."""
        return self.status == "running"

    @property
    def log(self) -> Path:
        """What it printed on standard error."""
        return JobFolder(self.folder).log

    def result(self) -> Any:
        """What the command printed with ``--json``, an error document included; None before it ended.

        Raises:
            CorruptFileError: the file is damaged.
        """
        return _document(JobFolder(self.folder).result)


def now() -> str:
    """The time as jobs note it. For people: nothing is decided by it, since clocks are set back and forth."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def write_whole(path: Path, text: str) -> None:
    """Write a small file so that it is there whole or not at all.

    Raises:
        OSError: the disk refuses; nothing is left.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))
        sync_file(temporary)
        os.replace(temporary, path)  # noqa: PTH105 - one step: a reader sees the old file or the new one
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read_job(root: Path) -> Job:
    """The job in a folder as it is now.

    Raises:
        JobNotFoundError: there is none, or it is being started.
        CorruptFileError: one of its files is damaged.
    """
    folder = JobFolder(root)
    known = read_json(folder.job)
    if not known:
        raise JobNotFoundError(f"there is no job {root.name!r}", hint="`gpux jobs` lists them.")
    try:
        process = ProcessMark(known["pid"], known["birth"], known["host"])
        job = Job(
            root.name,
            root,
            tuple(known["arguments"]),
            tuple(known["models"]),
            known["started"],
            known["version"],
            process,
            "running",
            progress=_progress(folder.events),
        )
    except KeyError as exc:
        raise CorruptFileError(f"{folder.job} lacks {exc}", hint="Remove the folder.") from exc
    return _with_end(job, folder)


def _with_end(job: Job, folder: JobFolder) -> Job:
    alive = is_alive(job.process)  # asked first: what ends between the two looks has written its end
    end = read_json(folder.exit)
    if end:
        document = _document(folder.result)
        error = document.get("error") if isinstance(document, dict) and end["code"] else None
        status = _status(end["code"], folder)
        return replace(job, status=status, ended=end["ended"], exit_code=end["code"], error=error)
    if alive or is_elsewhere(job.process):
        return job
    return replace(job, status="cancelled" if folder.cancelled.exists() else "lost")


def _status(code: int, folder: JobFolder) -> JobStatus:
    if code == 0:
        return "finished"
    return "cancelled" if code == INTERRUPTED or folder.cancelled.exists() else "failed"


def _document(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as exc:
        raise CorruptFileError(f"{path} is not JSON: {exc}", hint="Run the command again.") from exc


def _progress(events: Path) -> JobProgress | None:
    """The newest stage, and how far it is."""
    found: JobProgress | None = None
    for record in last_records(events):
        found = _advanced(found, record)
    return found


def _advanced(before: JobProgress | None, record: Record) -> JobProgress | None:
    match record.event:
        case StageStarted(stage, message):
            return JobProgress(stage, message, 0, 0, record.time, record.label)
        case BytesAdvanced(stage, done, total):
            same = before is not None and (before.label, before.stage) == (record.label, stage)
            message = before.message if before is not None and same else ""
            return JobProgress(stage, message, done, total, record.time, record.label)
        case StageFinished(stage, message) if message:  # without one it is a part of a stage
            return JobProgress(stage, message, 0, 0, record.time, record.label)
    return before
