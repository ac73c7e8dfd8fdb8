"""How a check of models looks, to a person and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpux.cli import figures
from gpux.cli.terminal import Terminal

if TYPE_CHECKING:
    from gpux.upkeep.inventory import Health
    from gpux.upkeep.repair import Repair

HEADER = ("Model", "Commit", "Task", "Files", "Proof")
Row = tuple[str, ...]


def shown(
    checked: Health, repairs: Sequence[Repair], replays: Mapping[Path, str]
) -> tuple[list[Row], list[dict[str, Any]]]:
    """The rows of the table, and the entries of the JSON document."""
    done = {repair.path: repair for repair in repairs}
    rows: list[Row] = []
    entries: list[dict[str, Any]] = []

    def add(kind: str, path: Path, cells: Row, size: str, found: dict[str, Any], replay: str | None = None) -> None:
        repair = done.get(path)
        ok = repair.repaired if repair is not None else bool(found["ok"])
        state = "ok" if found["ok"] else "repaired" if ok else "DAMAGED"
        rows.append((*cells, f"{state} ({size})" if size else state, replay or ""))
        entries.append({"kind": kind, **found, "ok": ok, "replay": replay, "repair": repair and repair.to_dict()})

    for report in checked.variants:
        cells = (report.id, report.commit[:7], report.task)
        size = f"{report.files}, {figures.size(report.size)}"
        add("variant", report.path, cells, size, report.to_dict(), replays.get(report.path))
    for entry in checked.inventory.damaged:
        add("variant", entry.path, (entry.path.parent.parent.name, "", ""), "", {"ok": False, **entry.to_dict()})
    for source in checked.sources:
        commits = ", ".join(commit[:7] for commit in source.commits)
        size = f"{source.files}, {figures.size(source.size)}"
        size += f", {source.unchecked} without a recorded hash" if source.unchecked else ""
        add("source", source.path, (source.id, commits, "source"), size, source.to_dict())
    return rows, entries


def remarks(terminal: Terminal, checked: Health, repairs: Sequence[Repair]) -> int:
    """Say what is damaged and what was repaired; the number of problems that are left."""
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
