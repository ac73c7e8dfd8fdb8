"""``gpux rm``."""

from __future__ import annotations

import click

from gpux.cli.removal import carry_out
from gpux.cli.terminal import Terminal, command


@command("rm")
@click.argument("refs", nargs=-1, required=True)
@click.option("--task", help="Only the variant for this task.")
@click.option("--dry-run", is_flag=True, help="Show what would go, and stop.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def rm_command(terminal: Terminal, refs: tuple[str, ...], task: str | None, dry_run: bool, yes: bool) -> None:
    """Remove stored models. Source files stay in the Hugging Face cache, which other tools share."""
    from gpux.reference import ModelRef
    from gpux.store import Store

    store = Store(terminal.settings.store)
    chosen = {}
    for ref in map(ModelRef.parse, refs):
        first = store.get(ref, task=task)
        for model in store.models():
            same = (model.manifest.scheme, model.id) == (first.manifest.scheme, first.id)
            if same and (ref.revision is None or model.commit == first.commit) and task in (None, model.task):
                chosen[model.path] = model
    carry_out(terminal, store.removal_plan(chosen.values()), dry_run=dry_run, yes=yes)
