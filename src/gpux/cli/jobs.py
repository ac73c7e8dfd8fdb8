"""``gpux jobs``."""

from __future__ import annotations

from typing import Any

import click

from gpux.cli import detaching
from gpux.cli.terminal import Terminal, command


@command("list")
def list_jobs(terminal: Terminal) -> None:
    """List the jobs: what runs, and what ended and how."""
    from gpux.jobs import jobs

    found = jobs(terminal.settings)
    if terminal.as_json:
        terminal.data([job.to_dict() for job in found])
    elif not found:
        terminal.say("Nothing was started: `gpux pull --detach org/name` starts a job.")
    else:
        terminal.table(detaching.COLUMNS, [detaching.row(job) for job in found])


@command("follow")
@click.argument("id")
def follow(terminal: Terminal, id: str) -> int:
    """Show a job's progress until it ends, and end as it did. Ctrl-C leaves the job running."""
    from gpux import jobs

    job = detaching.watch(terminal, jobs.find(id, terminal.settings))
    if job.error is not None or job.exit_code is None:
        raise detaching.failure(job)
    if terminal.as_json:
        terminal.data(job.result())
    terminal.say(f"Job {id} {job.status}." if not job.exit_code else f"Job {id} {job.status}: see {job.log}.")
    return job.exit_code


@command("cancel")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
def cancel(terminal: Terminal, ids: tuple[str, ...]) -> None:
    """End jobs; what had arrived is kept for the next pull."""
    from gpux import jobs

    ended = [jobs.cancel(job) for job in [jobs.find(id, terminal.settings) for id in ids]]
    if terminal.as_json:
        terminal.data([job.to_dict() for job in ended])
    for job in ended:
        terminal.say(f"Job {job.id}: {job.status}.")


@command("clear")
@click.argument("ids", nargs=-1, metavar="[ID]...")
def clear(terminal: Terminal, ids: tuple[str, ...]) -> None:
    """Forget jobs that have ended, all or these; the models that they brought stay."""
    from gpux import jobs

    removed = jobs.clear(terminal.settings, ids)
    if terminal.as_json:
        terminal.data([job.to_dict() for job in removed])
    terminal.say(f"{len(removed)} forgotten.")


@click.group("jobs", invoke_without_command=True, params=list(list_jobs.params))
@click.pass_context
def jobs_command(ctx: click.Context, as_json: bool, debug: bool, quiet: bool) -> Any:
    """List what `gpux pull --detach` started, and follow, cancel or forget it. Without a command: list."""
    ctx.obj = {**(ctx.obj or {}), "json": as_json, "quiet": quiet or bool((ctx.obj or {}).get("quiet"))}
    return None if ctx.invoked_subcommand else ctx.invoke(list_jobs, as_json=as_json, debug=debug, quiet=quiet)


for _command in (list_jobs, follow, cancel, clear):
    jobs_command.add_command(_command)
