"""What ``--detach`` and ``gpux jobs`` share: starting a job, and telling of one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from gpux.cli import figures
from gpux.cli.terminal import Terminal
from gpux.errors import CancelledError, GpuxError, UsageError

if TYPE_CHECKING:
    from gpux.jobs import Job

COLUMNS = ("Job", "Status", "Models", "Where it is", "Started")


def refuse_standard_input(terminal: Terminal) -> None:
    """Raise ``UsageError`` for a list that is read from stdin, before it is read: a job has none."""
    if {"-", "--from-file=-"} & set(terminal.arguments):
        raise UsageError("a job has no standard input", hint="Write the list to a file.")


def detach(terminal: Terminal, models: Sequence[str]) -> None:
    """Run the command that was typed, less its ``--detach``, as a job; print the job's id."""
    from gpux.jobs import start

    refuse_standard_input(terminal)
    job = start(terminal.arguments, terminal.settings, models=models)
    if terminal.as_json:
        terminal.data(job.to_dict())
        return
    terminal.line(job.id)
    terminal.say(f"It goes on when this terminal closes: `gpux jobs follow {job.id}`, `gpux jobs cancel {job.id}`.")


def watch(terminal: Terminal, job: Job) -> Job:
    """Draw a job's progress until it ends; Ctrl-C ends the drawing only."""
    from gpux.jobs import follow, follow_each

    try:
        if len(job.models) > 1:
            with terminal.labelled_progress() as draw:
                return follow_each(job, lambda label, event: draw(label or job.id, event))
        with terminal.progress() as progress:
            return follow(job, progress)
    except KeyboardInterrupt:
        how = f"`gpux jobs follow {job.id}` shows it again, `gpux jobs cancel {job.id}` ends it."
        raise CancelledError(f"job {job.id} goes on", hint=how) from None


def row(job: Job) -> tuple[str, ...]:
    """A job under ``COLUMNS``."""
    started = datetime.fromisoformat(job.started).astimezone()
    models = " ".join(job.models or job.arguments)
    return (job.id, job.status, models, where(job), f"{started:%Y-%m-%d %H:%M}")


def where(job: Job) -> str:
    """How far a job is, or what made it fail, in one line."""
    if job.error is not None:
        return str(job.error["message"]).partition("\n")[0]
    found = job.progress
    if found is None or job.status == "finished":
        return ""
    label = f"{found.label}: " if found.label else ""
    if found.total:
        return f"{label}{found.stage} {found.done / found.total:.0%} of {figures.size(found.total)}"
    return label + (f"{found.stage} {figures.size(found.done)}" if found.done else found.message)


def failure(job: Job) -> GpuxError:
    """The error that a job ended with, as if it had happened here; or that it ended without a word."""
    if job.error is not None:
        return GpuxError.from_dict(job.error)
    how = "Run the same command again: what had arrived is kept."
    if job.status == "cancelled":
        return CancelledError(f"job {job.id} was cancelled", hint=how)
    return GpuxError(f"job {job.id} is gone without a last word: killed, or the machine was restarted", hint=how)
