"""Writes the generation matrix as a page."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.coverage_entries import entries
from scripts.coverage_report import GROUPS
from scripts.generation_checks import TIE
from scripts.generation_shard import ROOM, SIZES, TASKS, cell

Row = Mapping[str, Any]
_COLUMNS = {
    "batch 1": "batch 1",
    "ragged": f"ragged {len(SIZES)}",
    "beams": "beams",
    "ragged beams": "beams, ragged",
    "lookup": "prompt lookup",
    "pieces": "chunked prompt",
    "reuse": "second turn",
    "full": "full context",
}
_INTRODUCTION = f"""# Generation, compared with transformers

Written by `./dev generation_matrix`. Every decoder and encoder-decoder of the zoo (`tests/models/zoo.py`: tiny models
with random weights) generates {ROOM} tokens for {len(SIZES)} prompts of {", ".join(map(str, SIZES))} tokens (fewer if
the context is shorter), in float32, greedily: without end tokens, with the model's own end tokens, without repeating a
token, and with an end token that comes early. The reference is `generate` of transformers on torch for each row alone.
A cell counts rows whose tokens are all equal. A row is a **near tie** if torch's two best scores at its first
difference are less than {TIE:g} apart, and **unsteady** if torch itself chooses gpux's token there when it runs without
a cache (an expert router at its threshold).

- *batch 1*: each row alone; *ragged {len(SIZES)}*: all rows in one batch.
- *beams*: three searches (3 beams; length penalty 1, 2 without repeated pairs, 0.5 with early stopping), every
  returned hypothesis compared.
- *prompt lookup*: speculative decoding, each row alone. *chunked prompt*: five prompt tokens in each call.
- *second turn*: the next turn of a conversation on the kept cache, compared with an empty cache. *full context*: ragged
  rows up to the end of the context, compared with each row alone. Both compare gpux with gpux; all others compare gpux
  with torch.
"""


def write_report(rows: Sequence[Row], page: Path, *, write: bool) -> int:
    """Print the counts and write the page; 1 when a row is wrong."""
    listed = _ordered(rows)
    counts = "\n".join(_counts(listed))
    print(counts)
    if write:
        page.write_text(_page(listed, counts), encoding="utf-8")
    return 1 if any(row["status"] not in ("equal", "refused") for row in listed) else 0


def _ordered(rows: Sequence[Row]) -> list[Row]:
    """Rows in the zoo's order; a refusal only where no converter produced a variant."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["name"], []).append(row)
    listed: list[Row] = []
    for entry in entries():
        tries = sorted(found.get(entry.name, ()), key=lambda row: str(row["requested_converter"]))
        stored = [row for row in tries if row["status"] != "refused"]
        listed += stored or tries[:1]
    return listed


def _counts(rows: Sequence[Row]) -> list[str]:
    lines = ["| | entries | variants | equal | wrong | refused by every converter |", "|---|---|---|---|---|---|"]
    for task in TASKS:
        mine = [row for row in rows if row["hub_task"] == task]
        status = Counter(row["status"] for row in mine)
        stored = len(mine) - status["refused"]
        names = len({row["name"] for row in mine})
        wrong = stored - status["equal"]
        lines.append(f"| {task} | {names} | {stored} | {status['equal']} | {wrong} | {status['refused']} |")
    return [*lines, "", *_totals(rows)]


def _totals(rows: Sequence[Row]) -> list[str]:
    lines = ["| check | rows | equal | near ties | unsteady | wrong |", "|---|---|---|---|---|---|"]
    for name, title in _COLUMNS.items():
        checks = [row["checks"][name] for row in rows if name in row.get("checks", ())]
        equal, ties, unsteady = (sum(check.get(key, 0) for check in checks) for key in ("equal", "ties", "unsteady"))
        wrong = sum(len(check["wrong"]) for check in checks)
        lines.append(f"| {title} | {equal + ties + unsteady + wrong} | {equal} | {ties} | {unsteady} | {wrong} |")
    return lines


def _page(rows: Sequence[Row], counts: str) -> str:
    parts = [_INTRODUCTION, counts, ""]
    head = f"| model type | task | converter | result | {' | '.join(_COLUMNS.values())} |"
    rule = "|" + "---|" * (len(_COLUMNS) + 4)
    for group, title in GROUPS.items():
        mine = [row for row in rows if row["group"] == group and not row["expected_error"]]
        if mine:
            parts += [f"## {title}", "", head, rule, *map(_line, mine), ""]
    reasons = [line for row in rows for line in _reasons(row)]
    return "\n".join([*parts, "## Rows that are not equal", "", *reasons, ""] if reasons else parts)


def _line(row: Row) -> str:
    name = row["name"] if row["group"] == "folder" else row["model_type"]
    converter = row["recipe"] or "" if row["status"] != "refused" else ""
    cells = [cell(row.get("checks", {}).get(check)) for check in _COLUMNS]
    return f"| {' | '.join((name, row['hub_task'], converter, row['status'], *cells))} |"


def _reasons(row: Row) -> list[str]:
    """Why a row is not equal; empty for an equal row."""
    if row["status"] == "equal" or row["expected_error"]:
        return []
    wrong = [f"{name}: {text}" for name, check in row.get("checks", {}).items() for text in check["wrong"]]
    reason = "; ".join(wrong) or f"{row['status']}: {row.get('error') or ''}: {row.get('message') or ''}"
    text = re.sub(r"/\S*/", "", " ".join(reason.split()))[:400]
    return [
        f"- {row['name']} ({row['requested_converter'] or row['recipe'] or 'any converter'}): "
        + text.replace("|", "\\|")
    ]
