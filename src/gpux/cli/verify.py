"""``gpux verify``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gpux.cli import health, replaying
from gpux.cli.terminal import Terminal, command
from gpux.errors import CorruptFileError, UsageError

if TYPE_CHECKING:
    from gpux.upkeep.repair import Repair


@command("verify")
@click.argument("refs", nargs=-1)
@click.option("--store-only", is_flag=True, help="Only variants, not the source files in the Hugging Face cache.")
@click.option("--source-only", is_flag=True, help="Only source files, not variants.")
@click.option("--repair", "mend", is_flag=True, help="Fetch, copy or make again what is damaged, and nothing else.")
@click.option("--offline", is_flag=True, help="Repair with what is on this machine.")
@click.option("--proof", is_flag=True, help="Replay the kept proof inputs too, without torch; implies --store-only.")
@click.option("--device", default="cpu", show_default=True, help="Where to replay them: cpu, cuda, coreml, auto …")
def verify_command(
    terminal: Terminal,
    refs: tuple[str, ...],
    store_only: bool,
    source_only: bool,
    mend: bool,
    offline: bool,
    proof: bool,
    device: str,
) -> None:
    """Check models offline: every file against its hash, and with --proof every answer against its proof.

    Variants are compared with their manifests, source files in the Hugging Face cache with the hashes in their names.
    """
    if source_only and (store_only or proof):
        raise UsageError("--source-only leaves nothing to check", hint="Leave it out.")
    from gpux.store import Store
    from gpux.upkeep.inventory import check, covered, everything, only

    terminal.override(offline=offline or None)
    store = Store(terminal.settings.store)
    found = covered(refs, terminal.settings, store) if refs else everything(terminal.settings, store)
    found = only(found, variants=not source_only, sources=not (store_only or proof))
    with terminal.progress() as progress:
        checked = check(found, store, progress=progress)
    repairs: list[Repair] = []
    if mend:
        from gpux.upkeep.repair import repair

        with terminal.progress() as progress:
            repairs = repair(checked, terminal.settings, store, progress=progress)
    mended = {done.path for done in repairs if done.repaired}
    replays = replaying.replay_sound(checked, mended, store, device) if proof else {}
    rows, entries = health.shown(checked, repairs, replays)
    if terminal.as_json:
        terminal.data(entries)
    else:
        terminal.table(health.HEADER, rows)
    left = health.remarks(terminal, checked, repairs)
    if left:
        _fail(terminal, left, mend=mend)


def _fail(terminal: Terminal, left: int, *, mend: bool) -> None:
    """End with the exit code of damage; what is damaged was printed."""
    if terminal.as_json:  # one document, which tells all
        raise click.exceptions.Exit(CorruptFileError.exit_code)
    hint: Any = None if mend else "`gpux verify --repair` fetches or makes again what is damaged, and nothing else."
    count = f"{left} {'problem' if left == 1 else 'problems'}"
    raise CorruptFileError(f"{count} {'left' if mend else 'found'}", hint=hint)
