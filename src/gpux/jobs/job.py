"""The state of a job and its files.

::

    jobs/<id>/job.json        arguments, start time and process; written before the command begins
    jobs/<id>/events.jsonl    progress events with their times, one per line
    jobs/<id>/log             standard error of the command
    jobs/<id>/cancelled       empty; exists once the end of the job was requested
    jobs/<id>/result.json     output of ``--json``, or an error document
    jobs/<id>/exit.json       exit code and end time; written last
    jobs/<id>/reserve         disk space reserved for the last two

JSON files are written under a temporary name and renamed, so that readers see whole files only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from gpux.errors import CorruptFileError, JobNotFoundError
from gpux.jobs.events import Record, last_records
from gpux.jobs.process import ProcessMark, is_alive, is_elsewhere
from gpux.model.json_file import load_json, read_json
from gpux.model.values import Value, from_builtins
from gpux.system.files import write_atomic
from gpux.system.progress import BytesAdvanced, StageFinished, StageStarted

_T = TypeVar("_T")
JobStatus = Literal["running", "finished", "failed", "cancelled", "lost"]

INTERRUPTED = 130  #: exit code of an interrupted command


@dataclass(frozen=True)
class JobFolder:
    """The paths of a job's files; does not access the disk."""

    root: Path

    @property
    def job(self) -> Path:
        """Arguments, start time and process."""
        return self.root / "job.json"

    @property
    def events(self) -> Path:
        """Progress events."""
        return self.root / "events.jsonl"

    @property
    def log(self) -> Path:
        """Standard error of the command."""
        return self.root / "log"

    @property
    def cancelled(self) -> Path:
        """Exists once the end of the job was requested."""
        return self.root / "cancelled"

    @property
    def result(self) -> Path:
        """Output of ``--json``."""
        return self.root / "result.json"

    @property
    def exit(self) -> Path:
        """Exit code and end time."""
        return self.root / "exit.json"

    @property
    def reserve(self) -> Path:
        """Disk space that is released just before the result is written."""
        return self.root / "reserve"


@dataclass(frozen=True)
class JobProgress(Value):
    """The last reported progress of a job."""

    stage: str
    message: str
    done: int  #: bytes of the stage
    total: int  #: 0: unknown, or a stage that is not counted in bytes
    time: str
    label: str = ""  #: reference, in a job of several models


@dataclass(frozen=True)
class Job(Value):
    """A background command, running or ended."""

    id: str
    folder: Path
    arguments: tuple[str, ...]  #: of gpux: ``("pull", "org/name")``
    models: tuple[str, ...]  #: the references among the arguments, as typed
    started: str  #: UTC, ISO 8601
    version: str  #: of gpux
    process: ProcessMark
    status: JobStatus
    ended: str | None = None  #: None while it runs, and if it was killed
    exit_code: int | None = None
    error: dict[str, Any] | None = None  #: ``GpuxError.to_dict()`` of the error that ended it
    progress: JobProgress | None = None

    @property
    def running(self) -> bool:
        """Whether the job has not ended yet."""
        return self.status == "running"

    @property
    def log(self) -> Path:
        """File with the standard error of the command."""
        return JobFolder(self.folder).log

    def result(self) -> Any:
        """The output of ``--json``, or an error document; None while the job runs.

        Raises:
            CorruptFileError: the file is damaged.
        """
        return _document(JobFolder(self.folder).result)


def now() -> str:
    """The current time as jobs store it. For display only, as clocks may be changed."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def write_whole(path: Path, text: str) -> None:
    """Write a small file atomically.

    Raises:
        OSError: the file cannot be written; no partial file remains.
    """
    data = text.encode("utf-8", "backslashreplace")
    write_atomic(path, data, flush=True, temporary=path.with_name(f".{path.name}.new"))


def read_job(root: Path) -> Job:
    """The current state of the job in a folder.

    Raises:
        JobNotFoundError: there is no job in the folder, or it is still being started.
        CorruptFileError: one of its files is damaged.
    """
    folder = JobFolder(root)
    known = read_json(folder.job)
    if not known:
        raise JobNotFoundError(f"no job {root.name!r}", hint="`gpux jobs` lists them.")
    start = _decoded(_Start, known, folder.job)
    job = Job(
        root.name,
        root,
        start.arguments,
        start.models,
        start.started,
        start.version,
        ProcessMark(start.pid, start.birth, start.host),
        "running",
        progress=_progress(folder.events),
    )
    return _with_end(job, folder)


@dataclass(frozen=True)
class _Start:
    """``job.json``."""

    arguments: tuple[str, ...]
    models: tuple[str, ...]
    started: str
    version: str
    pid: int
    birth: str
    host: str


@dataclass(frozen=True)
class _End:
    """``exit.json``."""

    code: int
    ended: str


def _decoded(kind: type[_T], document: dict[str, Any], file: Path) -> _T:
    try:
        return from_builtins(kind, document)
    except ValueError as exc:
        raise CorruptFileError(f"{file}: {exc}", hint=f"Remove the folder {file.parent}.") from exc


def _with_end(job: Job, folder: JobFolder) -> Job:
    alive = is_alive(job.process)  # checked first: a process that ends between the two checks has written exit.json
    if document := read_json(folder.exit):
        end, result = _decoded(_End, document, folder.exit), _document(folder.result)
        error = result.get("error") if isinstance(result, dict) and end.code else None
        return replace(job, status=_status(end.code, folder), ended=end.ended, exit_code=end.code, error=error)
    if alive or is_elsewhere(job.process):
        return job
    return replace(job, status="cancelled" if folder.cancelled.exists() else "lost")


def _status(code: int, folder: JobFolder) -> JobStatus:
    if code == 0:
        return "finished"
    return "cancelled" if code == INTERRUPTED or folder.cancelled.exists() else "failed"


def _document(path: Path) -> Any:
    try:
        return load_json(path, hint="Run the command again.")
    except FileNotFoundError:
        return None


def _progress(events: Path) -> JobProgress | None:
    """The current stage and its progress."""
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
        case StageFinished(stage, message) if message:  # without a message it is a part of a stage
            return JobProgress(stage, message, 0, 0, record.time, record.label)
    return before
