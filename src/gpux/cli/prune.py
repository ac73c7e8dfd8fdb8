"""``gpux prune``."""

from __future__ import annotations

import click

from gpux.cli.removal import carry_out
from gpux.cli.terminal import Terminal, command


@command("prune")
@click.option("--dry-run", is_flag=True, help="Show what would go, and stop.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def prune_command(terminal: Terminal, dry_run: bool, yes: bool) -> None:
    """Remove superseded variants, damaged ones, and what killed processes left behind."""
    from gpux.store import Store

    carry_out(terminal, Store(terminal.settings.store).prune_plan(), dry_run=dry_run, yes=yes)
