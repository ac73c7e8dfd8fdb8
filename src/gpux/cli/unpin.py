"""``gpux unpin``."""

from __future__ import annotations

import click

from gpux.cli.pinning import set_pins
from gpux.cli.terminal import Terminal, command


@command("unpin")
@click.argument("refs", nargs=-1, required=True)
@click.option("--task", help="Only the variants for this task.")
def unpin_command(terminal: Terminal, refs: tuple[str, ...], task: str | None) -> None:
    """Let stored models go again, as `gpux pin` kept them."""
    set_pins(terminal, refs, task=task, pinned=False)
