"""Showing a removal plan, asking, and carrying it out."""

from __future__ import annotations

from gpux.cli import figures
from gpux.cli.terminal import Terminal
from gpux.errors import UsageError
from gpux.store import RemovalPlan


def carry_out(terminal: Terminal, plan: RemovalPlan, *, dry_run: bool, yes: bool) -> None:
    """Show what goes and how much that frees; ask unless told not to; then remove it."""
    if not terminal.as_json:
        terminal.table(
            ("Removed", "Why", "Size"),
            [(removal.title, removal.reason, figures.size(removal.size)) for removal in plan.removals],
            right=(2,),
        )
    if not plan.removals:
        terminal.say("Nothing to remove.")
    elif not dry_run:
        if not terminal.confirm(f"Remove {figures.size(plan.bytes_freed)}?", yes=yes):
            raise UsageError("nothing was removed", hint="Add --yes to remove without a question.")
        freed = plan.execute()
        terminal.say(f"{figures.size(freed)} freed.")
    if terminal.as_json:
        terminal.data({**plan.to_dict(), "removed": bool(plan.removals) and not dry_run})
