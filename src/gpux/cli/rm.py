"""``gpux rm``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gpux.cli import figures
from gpux.cli.removal import carry_out
from gpux.cli.terminal import Terminal, command
from gpux.errors import NotStoredError, StorageError

if TYPE_CHECKING:
    from gpux.model.reference import ModelRef
    from gpux.model.variant import StoredModel
    from gpux.store import Store


@command("rm")
@click.argument("refs", nargs=-1, required=True)
@click.option("--task", help="Only the variants for this task.")
@click.option("--source", is_flag=True, help="Their source files too, as far as no other commit needs them.")
@click.option("--dry-run", is_flag=True, help="Show what would go, and stop.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def rm_command(
    terminal: Terminal, refs: tuple[str, ...], task: str | None, source: bool, dry_run: bool, yes: bool
) -> None:
    """Remove stored models. Source files stay in the Hugging Face cache, which other tools share.

    With --source, the source files of the same commits go too; of all commits where REF tells no revision.
    """
    from gpux.model.reference import ModelRef
    from gpux.source_cache.removal import plan_source_removal
    from gpux.store import Store
    from gpux.upkeep.inventory import covered

    store = Store(terminal.settings.store)
    if not source:
        models = [model for ref in map(ModelRef.parse, refs) for model in _variants(terminal, store, ref, task)]
        carry_out(terminal, store.removal_plan(models), dry_run=dry_run, yes=yes)
        return
    found = covered(refs, terminal.settings, store)
    plans = []
    for part in found.sources:
        _refuse_busy(store, part.repository.id)
        every = part.commits == part.repository.commits
        cache = terminal.settings.hf_cache
        plans.append(plan_source_removal(cache, part.repository.id, None if every else part.commits))
    models = [model for model in found.variants if task in (None, model.task)]
    kept = sum(plan.kept for plan in plans)
    if kept:
        terminal.say(f"{figures.size(kept)} of source files stay: other commits need them.")
    carry_out(terminal, store.removal_plan(models), *plans, dry_run=dry_run, yes=yes)


def _variants(terminal: Terminal, store: Store, ref: ModelRef, task: str | None) -> list[StoredModel]:
    from gpux.upkeep.inventory import covered

    try:
        return store.matching(ref, task=task)
    except NotStoredError as exc:
        if not covered([ref], terminal.settings, store).sources:
            raise
        hint = f"`gpux rm {ref} --source` removes its source files, which are here."
        raise NotStoredError(exc.message, hint=hint, **exc.details) from exc


def _refuse_busy(store: Store, id: str) -> None:
    if store.busy("hf", id):
        hint = "Run the same command again when that has ended."
        raise StorageError(f"{id} is being converted right now; its source files are in use", hint=hint)
