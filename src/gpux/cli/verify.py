"""``gpux verify``: files against their hashes, repairs, and replays of proofs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpux.cli import figures
from gpux.cli.references import references_argument
from gpux.cli.terminal import Terminal, command
from gpux.errors import CorruptFileError, GpuxError, UsageError
from gpux.system.words import counted

if TYPE_CHECKING:
    from gpux.store import Store
    from gpux.upkeep.inventory import Health
    from gpux.upkeep.repair import Repair
    from gpux.upkeep.replays import Replay

HEADER = ("Model", "Commit", "Task", "Precision", "Files", "Proof")
Row = tuple[str, ...]


def shown(
    checked: Health, repairs: Sequence[Repair], replays: Mapping[Path, Replay]
) -> tuple[list[Row], list[dict[str, Any]]]:
    """The rows of the table, and the entries of the JSON document, of checked models."""
    done = {repair.path: repair for repair in repairs}
    rows: list[Row] = []
    entries: list[dict[str, Any]] = []

    def add(kind: str, path: Path, cells: Row, size: str, found: dict[str, Any]) -> None:
        repair = done.get(path)
        ok = repair.repaired if repair is not None else bool(found["ok"])
        state = "ok" if found["ok"] else "repaired" if ok else "DAMAGED"
        replay = replays.get(path)
        rows.append((*cells, f"{state} ({size})" if size else state, in_words(replay)))
        done_again = replay and replay.to_dict()
        entries.append({"kind": kind, **found, "ok": ok, "replay": done_again, "repair": repair and repair.to_dict()})

    for report in checked.variants:
        cells = (report.id, report.commit[:7], report.task, report.precision)
        size = f"{report.files}, {figures.size(report.size)}"
        add("variant", report.path, cells, size, report.to_dict())
    for entry in checked.inventory.damaged:
        add("variant", entry.path, (entry.path.parent.parent.name, "", "", ""), "", {"ok": False, **entry.to_dict()})
    for source in checked.sources:
        commits = ", ".join(commit[:7] for commit in source.commits)
        size = f"{source.files}, {figures.size(source.size)}"
        size += f", {source.unchecked} without a recorded hash" if source.unchecked else ""
        add("source", source.path, (source.id, commits, "source", ""), size, source.to_dict())
    return rows, entries


def remarks(terminal: Terminal, checked: Health, repairs: Sequence[Repair]) -> int:
    """Print damages and repairs; returns the number of problems that remain."""
    for message in checked.messages:
        terminal.say(f"! {message}")
    for repair in repairs:
        words = f"{repair.method}: {repair.message}" if repair.repaired else f"NOT repaired: {repair.message}"
        terminal.say(f"  {repair.title}: {words}" + (f" → {repair.hint}" if repair.hint else ""))
    if repairs:
        received = sum(repair.received for repair in repairs)
        count = sum(repair.repaired for repair in repairs)
        terminal.say(f"{count} of {len(repairs)} repaired; {figures.size(received)} came from the Hub.")
        return len(repairs) - count
    return len(checked.messages)


def replay_all(checked: Health, mended: Collection[Path], store: Store, device: str) -> dict[Path, Replay]:
    """Replay the proof of every checked variant; of a damaged one its answers only."""
    from gpux.upkeep.replays import replay_model

    intact = {report.path for report in checked.variants if report.ok} | set(mended)
    paths = {model.path for model in checked.inventory.variants}
    models = [model for model in store.models() if model.path in paths]
    return {model.path: replay_model(model, device=device, intact=model.path in intact) for model in models}


def in_words(replay: Replay | None) -> str:
    """The result of a replay for the table: ``3 cases, 9 answers on cpu: 2.1e-06``."""
    if replay is None:
        return ""
    if replay.error is not None:
        return "DIFFERS" if replay.error.code == "proof" else "not replayed"
    if not (replay.graphs or replay.answers):
        return "nothing to replay"
    counts = [counted(replay.graphs, "case")] if replay.graphs else []
    counts += [f"{replay.answers} answers"] if replay.answers else []
    return f"{', '.join(counts)} on {replay.device}: {figures.difference(replay.max_abs_diff)}".removesuffix(": ")


@command("verify")
@references_argument
@click.option("--precision", metavar="NAME", help="Only the variants in this precision, as REF:int8.")
@click.option("--store-only", is_flag=True, help="Only variants, not the source files in the Hugging Face cache.")
@click.option("--source-only", is_flag=True, help="Only source files, not variants.")
@click.option("--repair", "mend", is_flag=True, help="Repair damaged files only: download, copy or convert them again.")
@click.option("--offline", is_flag=True, help="Repair from files on this machine only.")
@click.option(
    "--proof", is_flag=True, help="Also replay the proof on its kept inputs, without torch; implies --store-only."
)
@click.option("--device", default="cpu", show_default=True, help="Device for --proof: cpu, cuda, coreml, auto …")
def verify_command(
    terminal: Terminal,
    refs: tuple[str, ...],
    precision: str | None,
    store_only: bool,
    source_only: bool,
    mend: bool,
    offline: bool,
    proof: bool,
    device: str,
) -> None:
    """Check models offline: every file against its hash, and with --proof every answer against its proof.

    With --proof the graphs run their kept inputs again, and the pipeline answers its kept inputs again; of a variant
    with an edited file, the first token id or answer that differs is printed.

    Variants are compared with their manifests, source files in the Hugging Face cache with the hashes in their names.
    """
    if source_only and (store_only or proof):
        raise UsageError("--source-only leaves nothing to check", hint="Remove --source-only.")
    from gpux.store import Store
    from gpux.upkeep.inventory import verify_models

    terminal.override(offline=offline or None)
    store = Store(terminal.settings.store)
    with terminal.progress() as progress:
        checked = verify_models(
            refs or None,
            variants=not source_only,
            sources=not (store_only or proof),
            precision=precision,
            settings=terminal.settings,
            store=store,
            progress=progress,
        )
    repairs: list[Repair] = []
    if mend:
        from gpux.upkeep.repair import repair_models

        with terminal.progress() as progress:
            repairs = repair_models(checked, settings=terminal.settings, store=store, progress=progress)
    mended = {done.path for done in repairs if done.repaired}
    replays = replay_all(checked, mended, store, device) if proof else {}
    rows, entries = shown(checked, repairs, replays)
    if terminal.as_json:
        terminal.data(entries)
    else:
        terminal.table(HEADER, rows)
    left = remarks(terminal, checked, repairs)
    failures = [replay.error for replay in replays.values() if replay.error is not None]
    for failure in failures:
        terminal.say(f"! {failure.message}")
    if left:
        _fail(terminal, left, mend=mend)
    if failures:
        _fail_replays(terminal, failures)


def _fail_replays(terminal: Terminal, failures: Sequence[GpuxError]) -> None:
    """End with the error of the first replay that failed; each was printed before."""
    if terminal.as_json:
        raise click.exceptions.Exit(failures[0].exit_code)
    count = f"{len(failures)} {'proof does' if len(failures) == 1 else 'proofs do'} not hold"
    raise type(failures[0])(count, hint=failures[0].hint, **failures[0].details)


def _fail(terminal: Terminal, left: int, *, mend: bool) -> None:
    """End with the exit code of a damaged file; the damages were printed before."""
    if terminal.as_json:  # the one JSON document was printed
        raise click.exceptions.Exit(CorruptFileError.exit_code)
    hint: Any = None if mend else "`gpux verify --repair` downloads or converts the damaged parts again."
    count = f"{left} {'problem' if left == 1 else 'problems'}"
    raise CorruptFileError(f"{count} {'left' if mend else 'found'}", hint=hint)
