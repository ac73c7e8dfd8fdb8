"""``gpux outdated``."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from gpux.cli.terminal import Terminal, command

if TYPE_CHECKING:
    from gpux.upkeep.outdated import Currency

HEADER = ("Model", "Status", "Stored", "Now", "Changed", "Tasks")


@command("outdated")
@click.argument("refs", nargs=-1)
@click.option("--exit-code", is_flag=True, help="End with 1 if a model is outdated.")
@click.option("--offline", is_flag=True, help="Ask no Hub: list what would be asked about.")
def outdated_command(terminal: Terminal, refs: tuple[str, ...], exit_code: bool, offline: bool) -> int:
    """Tell which stored models are behind the branch or tag that they were pulled by; changes nothing.

    Without REFS, all of them. One request for each model and revision.
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


def remarks(terminal: Terminal, found: list[Currency]) -> None:
    """Why something is not known, each reason once, and what is there no more."""
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
    """A message with what it is about before it, which is not said twice where the message begins with it."""
    id = reference.partition("@")[0]
    if message.startswith(f"{id} ") and not more:
        return message
    return f"{reference}{more}: {message.removeprefix(f'{id}: ')}"


def reason(found: Currency) -> str:
    """``unknown: …`` or ``gone: …``, in one line and without the name; empty if neither."""
    message = found.error.message.partition("\n")[0] if found.error else ""
    return message and f"{found.status}: {message.removeprefix(f'{found.id}: ')}"


def _row(currency: Currency) -> tuple[str, ...]:
    new = (currency.new_commit or "")[:12]
    changed = (currency.last_modified or "")[:10]
    return currency.reference, currency.status, currency.commit[:12], new, changed, " ".join(currency.tasks)
