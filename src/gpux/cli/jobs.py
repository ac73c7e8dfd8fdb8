"""``gpux jobs``, and ``--detach`` of other commands."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from gpux.cli import figures
from gpux.cli.terminal import CommandGroup, Terminal, command
from gpux.errors import CancelledError, GpuxError, UsageError

if TYPE_CHECKING:
    from gpux.jobs import Job

_HEADER = ("Job", "Status", "Models", "Progress", "Started")


@command("list")
def list_jobs(terminal: Terminal) -> None:
    """List the running and the ended jobs."""
    from gpux.jobs import jobs

    found = jobs(terminal.settings)
    if terminal.as_json:
        terminal.data([job.to_dict() for job in found])
    elif not found:
        terminal.say("No jobs: `gpux pull --detach org/name` starts one.")
    else:
        terminal.table(_HEADER, [_row(job) for job in found])


@command("follow")
@click.argument("id")
def follow(terminal: Terminal, id: str) -> int:
    """Show a job's progress until it ends, and exit with its exit code. Ctrl-C leaves the job running."""
    from gpux import jobs

    job = _watch(terminal, jobs.find(id, terminal.settings))
    if job.error is not None or job.exit_code is None:
        raise _failure(job)
    if terminal.as_json:
        terminal.data(job.result())
    terminal.say(f"Job {id} {job.status}." if not job.exit_code else f"Job {id} {job.status}: see {job.log}.")
    return job.exit_code


@command("cancel")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
def cancel(terminal: Terminal, ids: tuple[str, ...]) -> None:
    """Cancel jobs; downloaded bytes are kept for the next pull."""
    from gpux import jobs

    ended = [jobs.cancel(job) for job in [jobs.find(id, terminal.settings) for id in ids]]
    if terminal.as_json:
        terminal.data([job.to_dict() for job in ended])
    for job in ended:
        terminal.say(f"Job {job.id}: {job.status}.")


@command("clear")
@click.argument("ids", nargs=-1, metavar="[ID]...")
def clear(terminal: Terminal, ids: tuple[str, ...]) -> None:
    """Remove ended jobs from the list; pulled models are kept.

    Without IDs, removes all ended jobs.
    """
    from gpux import jobs

    removed = jobs.clear(terminal.settings, ids)
    if terminal.as_json:
        terminal.data([job.to_dict() for job in removed])
    terminal.say(f"{len(removed)} removed.")


@click.group("jobs", cls=CommandGroup, invoke_without_command=True, params=list(list_jobs.params))
@click.pass_context
def jobs_command(ctx: click.Context, as_json: bool, debug: bool, quiet: bool) -> Any:
    """List, follow, cancel or clear the jobs of `gpux pull --detach`. Without a command: list."""
    ctx.obj = {**(ctx.obj or {}), "json": as_json, "quiet": quiet or bool((ctx.obj or {}).get("quiet"))}
    return None if ctx.invoked_subcommand else ctx.invoke(list_jobs, as_json=as_json, debug=debug, quiet=quiet)


def refuse_standard_input(terminal: Terminal) -> None:
    """Raise ``UsageError`` if the list of references is read from stdin, which a job does not have."""
    if {"-", "--from-file=-"} & set(terminal.arguments):
        raise UsageError("a job has no standard input", hint="Write the list to a file.")


def detach(terminal: Terminal, models: Sequence[str]) -> None:
    """Run the current command without ``--detach`` as a job and print the job's id."""
    from gpux.jobs import start

    refuse_standard_input(terminal)
    job = start(terminal.arguments, terminal.settings, models=models)
    if terminal.as_json:
        terminal.data(job.to_dict())
        return
    terminal.line(job.id)
    terminal.say(
        f"The job continues when this terminal closes: `gpux jobs follow {job.id}`, `gpux jobs cancel {job.id}`."
    )


def _watch(terminal: Terminal, job: Job) -> Job:
    """Show a job's progress until the job ends; Ctrl-C stops the display only."""
    from gpux.jobs import follow, follow_each

    try:
        if len(job.models) > 1:
            with terminal.labelled_progress() as draw:
                return follow_each(job, lambda label, event: draw(label or job.id, event))
        with terminal.progress() as progress:
            return follow(job, progress)
    except KeyboardInterrupt:
        hint = f"`gpux jobs follow {job.id}` shows its progress again, `gpux jobs cancel {job.id}` ends it."
        raise CancelledError(f"job {job.id} is still running", hint=hint) from None


def _row(job: Job) -> tuple[str, ...]:
    """The columns of :data:`_HEADER`."""
    started = datetime.fromisoformat(job.started).astimezone()
    models = " ".join(job.models or job.arguments)
    return (job.id, job.status, models, _progress(job), f"{started:%Y-%m-%d %H:%M}")


def _progress(job: Job) -> str:
    """The stage and percentage of a job, or the message of its error, in one line."""
    if job.error is not None:
        return str(job.error["message"]).partition("\n")[0]
    found = job.progress
    if found is None or job.status == "finished":
        return ""
    label = f"{found.label}: " if found.label else ""
    if found.total:
        return f"{label}{found.stage} {found.done / found.total:.0%} of {figures.size(found.total)}"
    return label + (f"{found.stage} {figures.size(found.done)}" if found.done else found.message)


def _failure(job: Job) -> GpuxError:
    """The error that ended a job, or one that states that the job was killed."""
    if job.error is not None:
        return GpuxError.from_dict(job.error)
    hint = "Run the same command again: downloaded bytes are kept."
    if job.status == "cancelled":
        return CancelledError(f"job {job.id} was cancelled", hint=hint)
    return GpuxError(f"job {job.id} ended without a result: it was killed, or the machine was restarted", hint=hint)


for _command in (list_jobs, follow, cancel, clear):
    jobs_command.add_command(_command)
