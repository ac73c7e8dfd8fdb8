"""Showing removal plans, asking once, and carrying them out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from gpux.cli import figures
from gpux.cli.terminal import Terminal
from gpux.errors import UsageError


class Removed(Protocol):
    """One thing that goes."""

    @property
    def title(self) -> str:
        """What it is."""

    @property
    def reason(self) -> str:
        """Why it goes."""

    @property
    def size(self) -> int:
        """Bytes that this frees."""


class Plan(Protocol):
    """What a removal takes away, as both the store and the source cache have it."""

    @property
    def removals(self) -> Sequence[Removed]:
        """What goes."""

    @property
    def bytes_freed(self) -> int:
        """Bytes of all that goes."""

    def execute(self) -> int:
        """Carry it out; the bytes that were freed."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values."""


def carry_out(terminal: Terminal, plan: Plan, *sources: Plan, dry_run: bool, yes: bool) -> None:
    """Show what goes and how much that frees; ask unless told not to; then remove it, source files first."""
    plans = (*sources, plan)
    removals = [removal for one in (plan, *sources) for removal in one.removals]
    planned = sum(one.bytes_freed for one in plans)
    if removals and not terminal.as_json:
        rows = [(removal.title, removal.reason, figures.size(removal.size)) for removal in removals]
        terminal.table(("Removed", "Why", "Size"), rows, right=(2,))
    if not removals:
        terminal.say("Nothing to remove.")
    elif not dry_run:
        if not terminal.confirm(f"Remove {figures.size(planned)}?", yes=yes):
            raise UsageError("nothing was removed", hint="Add --yes to remove without a question.")
        freed = sum(one.execute() for one in plans)
        terminal.say(f"{figures.size(freed)} freed.")
    if terminal.as_json:
        source = {"source": [one.to_dict() for one in sources]} if sources else {}
        done = bool(removals) and not dry_run
        terminal.data({**plan.to_dict(), "bytes_freed": planned, **source, "removed": done})
