"""``gpux outdated`` and ``gpux update``."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from gpux.cli.references import references_argument
from gpux.cli.terminal import Terminal, command
from gpux.cli.toolchain import with_toolchain
from gpux.model.reference import Reference
from gpux.model.variant import StoredModel

if TYPE_CHECKING:
    from gpux.upkeep.outdated import RevisionStatus, Update

HEADER = ("Model", "Status", "Stored", "Now", "Changed", "Tasks")


@command("outdated")
@references_argument
@click.option("--exit-code", is_flag=True, help="End with 1 if a model is outdated.")
@click.option("--offline", is_flag=True, help="Make no request: list the models that would be checked.")
def outdated_command(terminal: Terminal, refs: tuple[str, ...], exit_code: bool, offline: bool) -> int:
    """List stored models that are behind the branch or tag they were pulled from; changes nothing.

    Without REFS, checks all stored models. One request per model and revision.
    """
    from gpux.upkeep.outdated import outdated

    terminal.override(offline=offline or None)
    found = outdated(refs or None, settings=terminal.settings)
    if terminal.as_json:
        terminal.data([currency.to_dict() for currency in found])
    elif found:
        terminal.table(HEADER, [_row(currency) for currency in found])
    remarks(terminal, found)
    counts = Counter(currency.status for currency in found)
    if not found:
        terminal.say("Nothing is stored that was pulled by a branch or tag.")
    elif counts["outdated"]:
        terminal.say(f"{counts['outdated']} of {len(found)} outdated: `gpux update` pulls them again.")
    else:
        terminal.say(f"{counts['current']} of {len(found)} current.")
    return int(exit_code and counts["outdated"] > 0)


def remarks(terminal: Terminal, found: list[RevisionStatus]) -> None:
    """Print why models could not be checked, each reason once, and which were renamed."""
    reasons: dict[str, list[str]] = {}
    for currency in found:
        if currency.error is not None:
            reasons.setdefault(currency.error.message, []).append(currency.reference)
        if currency.renamed_to is not None:
            terminal.say(f"! {currency.reference} is named {currency.renamed_to} now")
    for message, references in reasons.items():
        others = f" and {len(references) - 1} more" if len(references) > 1 else ""
        terminal.say("! " + about(references[0], message, others))
    for hint in dict.fromkeys(c.error.hint for c in found if c.status == "unknown" and c.error and c.error.hint):
        terminal.say(f"→ {hint}")


def about(reference: str, message: str, more: str = "") -> str:
    """The message with its reference in front, unless the message begins with it."""
    id = reference.partition("@")[0]
    if message.startswith(f"{id} ") and not more:
        return message
    return f"{reference}{more}: {message.removeprefix(f'{id}: ')}"


def reason(found: RevisionStatus) -> str:
    """``unknown: …`` or ``gone: …`` in one line, without the model's name; empty if neither."""
    message = found.error.message.partition("\n")[0] if found.error else ""
    return message and f"{found.status}: {message.removeprefix(f'{found.id}: ')}"


def _row(currency: RevisionStatus) -> tuple[str, ...]:
    new = (currency.new_commit or "")[:12]
    changed = (currency.last_modified or "")[:10]
    return currency.reference, currency.status, currency.commit[:12], new, changed, " ".join(currency.tasks)


UPDATE_HEADER = ("Model", "Task", "From", "To", "Result")


@command("update")
@references_argument
@click.option("--precision", metavar="NAME", help="Only the variants in this precision, as REF:int8.")
@click.option("--dry-run", is_flag=True, help="Show what would be pulled, and stop.")
@click.option("--offline", is_flag=True, help="Make no request; nothing can be updated then.")
@click.option("--yes", "-y", is_flag=True, help="Install a missing toolchain without asking.")
def update_command(
    terminal: Terminal, refs: tuple[str, ...], precision: str | None, dry_run: bool, offline: bool, yes: bool
) -> int:
    """Pull outdated models again, for the same tasks and precisions; without REFS, all of them.

    Former commits stay until `gpux prune`. A failure does not stop the others; the exit code is that of the first one.
    """
    from gpux.upkeep.outdated import outdated, update

    terminal.override(offline=offline or None)
    found = outdated(refs or None, precision=precision, settings=terminal.settings)

    def pull(ref: Reference, **options: Any) -> StoredModel:
        return with_toolchain(terminal, lambda: _pull(terminal, ref, options), yes=yes)

    done = [] if dry_run else update(found, settings=terminal.settings, pull=pull)
    if terminal.as_json:
        plan = [one for c in found if dry_run for one in c.would_pull()]
        updates = [entry.to_dict() for entry in done]
        terminal.data({"found": [c.to_dict() for c in found], "would_pull": plan, "updates": updates})
    else:
        remaining = [_standing(c) for c in found if c.error or (dry_run and c.status == "outdated")]
        if rows := [_update_row(entry) for entry in done] + remaining:
            terminal.table(UPDATE_HEADER, rows)
    remarks(terminal, found)
    _conclude(terminal, found, done, dry_run=dry_run)
    failures = [entry.error for entry in done] + [c.error for c in found if c.status == "unknown"]
    return next((error.exit_code for error in failures if error is not None), 0)


def _pull(terminal: Terminal, ref: Reference, options: dict[str, Any]) -> StoredModel:
    from gpux.pull.api import pull_model

    with terminal.progress() as progress:
        return pull_model(ref, **{**options, "progress": progress})


def _standing(found: RevisionStatus) -> tuple[str, ...]:
    now, result = (found.new_commit or "")[:12], reason(found) or "would pull"
    return found.reference, " ".join(found.tasks), found.commit[:12], now, result


def _update_row(entry: Update) -> tuple[str, ...]:
    now, result = (entry.model.commit[:12], "updated") if entry.model else ("", "FAILED")
    return entry.reference, entry.task, entry.commit[:12], now, result


def _conclude(terminal: Terminal, found: list[RevisionStatus], done: list[Update], *, dry_run: bool) -> None:
    statuses = [currency.status for currency in found]
    for entry, error in ((entry, entry.error) for entry in done if entry.error):
        terminal.warn(about(entry.reference, error.message, f" ({entry.task})"), error.hint)
    if "unknown" in statuses:
        terminal.say(f"{statuses.count('unknown')} of {len(found)} could not be checked.")
    elif "outdated" not in statuses:
        terminal.say("Nothing is outdated.")
    if "outdated" in statuses and (dry_run or any(entry.model for entry in done)):
        terminal.say("The former commits stay until `gpux prune`.")
