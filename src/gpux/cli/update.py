"""``gpux update``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gpux.cli.installing import with_toolchain
from gpux.cli.outdated import about, reason, remarks
from gpux.cli.terminal import Terminal, command
from gpux.model.reference import Reference
from gpux.model.variant import StoredModel

if TYPE_CHECKING:
    from gpux.upkeep.outdated import Currency, Update

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
    from gpux.upkeep.outdated import outdated, update

    terminal.override(offline=offline or None)
    found = outdated(refs or None, settings=terminal.settings)

    def pull(ref: Reference, **options: Any) -> StoredModel:
        return with_toolchain(terminal, lambda: _pull(terminal, ref, options), yes=yes)

    done = [] if dry_run else update(found, settings=terminal.settings, pull=pull)
    if terminal.as_json:
        plan = [one for c in found if dry_run for one in c.would_pull()]
        updates = [entry.to_dict() for entry in done]
        terminal.data({"found": [c.to_dict() for c in found], "would_pull": plan, "updates": updates})
    else:
        told = [_standing(c) for c in found if c.error or (dry_run and c.status == "outdated")]
        if rows := [_row(entry) for entry in done] + told:
            terminal.table(HEADER, rows)
    remarks(terminal, found)
    _conclude(terminal, found, done, dry_run=dry_run)
    failures = [entry.error for entry in done] + [c.error for c in found if c.status == "unknown"]
    return next((error.exit_code for error in failures if error is not None), 0)


def _pull(terminal: Terminal, ref: Reference, options: dict[str, Any]) -> StoredModel:
    from gpux.pull.api import pull_model

    with terminal.progress() as progress:
        return pull_model(ref, **{**options, "progress": progress})


def _standing(found: Currency) -> tuple[str, ...]:
    now, result = (found.new_commit or "")[:12], reason(found) or "would pull"
    return found.reference, " ".join(found.tasks), found.commit[:12], now, result


def _row(entry: Update) -> tuple[str, ...]:
    now, result = (entry.model.commit[:12], "updated") if entry.model else ("", "FAILED")
    return entry.reference, entry.task, entry.commit[:12], now, result


def _conclude(terminal: Terminal, found: list[Currency], done: list[Update], *, dry_run: bool) -> None:
    statuses = [currency.status for currency in found]
    for entry, error in ((entry, entry.error) for entry in done if entry.error):
        terminal.warn(about(entry.reference, error.message, f" ({entry.task})"), error.hint)
    if "unknown" in statuses:
        terminal.say(f"Whether {statuses.count('unknown')} of {len(found)} are outdated cannot be known.")
    elif "outdated" not in statuses:
        terminal.say("Nothing is outdated.")
    if "outdated" in statuses and (dry_run or any(entry.model for entry in done)):
        terminal.say("The former commits stay until `gpux prune`.")
