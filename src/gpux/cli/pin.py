"""``gpux pin``."""

from __future__ import annotations

import click

from gpux.cli.pinning import set_pins
from gpux.cli.terminal import Terminal, command


@command("pin")
@click.argument("refs", nargs=-1, required=True)
@click.option("--task", help="Only the variants for this task.")
def pin_command(terminal: Terminal, refs: tuple[str, ...], task: str | None) -> None:
    """Keep stored models: neither GPUX_MAX_CACHE nor `gpux prune` removes them then.

    A pin holds the variants that are stored now, of the revision in REF or of all. `gpux rm` removes pinned ones too.
    """
    set_pins(terminal, refs, task=task, pinned=True)
