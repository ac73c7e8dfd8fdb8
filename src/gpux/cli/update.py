"""``gpux update``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gpux.cli.installing import with_toolchain
from gpux.cli.outdated import remarks
from gpux.cli.terminal import Terminal, command
from gpux.reference import Reference
from gpux.types import StoredModel

if TYPE_CHECKING:
    from gpux.outdated import Currency, Update

HEADER = ("Model", "Task", "From", "To", "Result")


@command("update")
@click.argument("refs", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Show what would be pulled, and stop.")
@click.option("--offline", is_flag=True, help="Ask no Hub: then nothing can be updated.")
@click.option("--yes", "-y", is_flag=True, help="Install a missing toolchain without asking.")
def update_command(terminal: Terminal, refs: tuple[str, ...], dry_run: bool, offline: bool, yes: bool) -> int:
    """Pull outdated models again, for the tasks and in the way that they are stored; without REFS, all of them.

    Former commits stay until `gpux prune`. One that fails stops no other; the exit code is that of the first failure.
    """
    from gpux.outdated import outdated, update

    terminal.override(offline=offline or None)
    found = outdated(refs or None, settings=terminal.settings)

    def pull(ref: Reference, **options: Any) -> StoredModel:
        return with_toolchain(terminal, lambda: _pull(terminal, ref, options), yes=yes)

    done = [] if dry_run else update(found, settings=terminal.settings, pull=pull)
    if terminal.as_json:
        terminal.data({"found": [c.to_dict() for c in found], "updates": [entry.to_dict() for entry in done]})
    else:
        terminal.table(HEADER, _plan(found) if dry_run else [_row(entry) for entry in done])
    remarks(terminal, found)
    _conclude(terminal, done, behind=sum(currency.status == "outdated" for currency in found), dry_run=dry_run)
    failures = [entry.error for entry in done] + [c.error for c in found if c.status == "unknown"]
    return next((error.exit_code for error in failures if error is not None), 0)


def _pull(terminal: Terminal, ref: Reference, options: dict[str, Any]) -> StoredModel:
    from gpux.pull import pull_model

    with terminal.progress() as progress:
        return pull_model(ref, **{**options, "progress": progress})


def _plan(found: list[Currency]) -> list[tuple[str, ...]]:
    behind = [currency for currency in found if currency.status == "outdated"]
    return [(c.reference, " ".join(c.tasks), c.commit[:12], (c.new_commit or "")[:12], "would pull") for c in behind]


def _row(entry: Update) -> tuple[str, ...]:
    new = entry.model.commit[:12] if entry.model else ""
    return entry.reference, entry.task, entry.commit[:12], new, "updated" if entry.model else "FAILED"


def _conclude(terminal: Terminal, done: list[Update], *, behind: int, dry_run: bool) -> None:
    for entry in done:
        if entry.error:
            terminal.warn(f"{entry.reference} ({entry.task}): {entry.error.message}", entry.error.hint)
    if not behind:
        terminal.say("Nothing is outdated.")
    elif dry_run or any(entry.model for entry in done):
        terminal.say("The former commits stay until `gpux prune`.")
