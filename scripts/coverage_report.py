"""Writes the coverage matrix as a page, as JSON, and as the table of preferences for the planner."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpux.convert.registry import converters
from gpux.system.settings import Settings
from scripts.coverage_entries import entries
from scripts.coverage_preferences import preferences
from scripts.update_proven_types import write as write_proven_types

Row = Mapping[str, Any]

#: Group -> minimum share of proven entries.
GOALS = {"zoo": 0.96, "extra": 0.60}
GROUPS = {
    "zoo": "Registered by Optimum",
    "extra": "Supported by transformers only",
    "more": "More types and variants",
    "folder": "Special folders with the expected result",
}
_COLUMNS = (
    "| model type | task | result | answers | converter | largest difference | right up to | independent check | s "
    "| MB |"
)
_INTRODUCTION = """# Coverage

Written by `./dev coverage_matrix`. Every entry is a tiny model with random weights, drawn so that wrong masks,
positions and biases change the output (`tests/models/zoo.py`). The model is pulled from a local folder: planned,
converted, proven, stored, opened again and its proof replayed. An independent check that shares no code with gpux's
proof then compares the stored graphs with the original on torch, on other inputs, over cached steps, and beyond every
length that the configuration declares unless a limit in the graph forbids it. Its figure is relative to the larger of 1
and the largest reference value. `s` and `MB`: time and peak memory of the pull, on a machine with other work.

`answers` is the comparison of the pipeline with transformers.pipeline and sentence-transformers, from the input to the
answer: the number of inputs whose answers were equal, `graph only` where nothing could be compared (the reason is in
`coverage.json`), or `no pipeline`. A model whose answers differ is not stored, and its result is `refused`.
"""


def write_report(rows: Sequence[Row], root: Path, *, write: bool) -> int:
    """Print the counts, and write the page, the JSON and the preferences; 1 when a stored variant is wrong."""
    chosen = _by_entry(rows)
    counts = "\n".join(_counts(chosen))
    print(counts)
    if write:
        (root / "docs" / "coverage.md").write_text(_page(chosen, counts), encoding="utf-8")
        _write_json(root / "docs" / "coverage.json", [_public(row) for row in rows])
        _write_json(root / "src" / "gpux" / "convert" / "preferences.json", preferences(rows))
        write_proven_types(rows, root / "src" / "gpux" / "pipelines" / "proven_types.json")
    return 1 if any(row["status"] == "WRONG" for row in rows) else 0


def _by_entry(rows: Sequence[Row]) -> list[Row]:
    """A row for each entry in the zoo's order: the planner's choice, else the best requested converter."""
    rank = {"WRONG": 0, "proven": 1, "refused": 2, "failed": 3, "unbuilt": 4}
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["name"], []).append(row)
    ordered = [found[entry.name] for entry in entries() if entry.name in found]
    preferred, unmeasured = preferences(rows), list(converters(Settings.from_env()))

    def key(row: Row) -> tuple[bool, int, int]:
        order = preferred.get(row["hub_task"], {}).get(row["base"], []) if row["status"] == "proven" else unmeasured
        place = order.index(row["requested_converter"]) if row["requested_converter"] in order else len(order)
        return row["requested_converter"] is not None and row["status"] != "WRONG", rank[row["status"]], place

    return [min(tries, key=key) for tries in ordered]


def _counts(rows: Sequence[Row]) -> list[str]:
    lines = ["| | entries | proven | goal | refused | failed | wrong |", "|---|---|---|---|---|---|---|"]
    total = Counter(entry.group for entry in entries())
    for group, title in GROUPS.items():
        mine = [row for row in rows if row["group"] == group]
        status = Counter(_counted(row) for row in mine)
        good, goal = status["proven"], GOALS.get(group)
        verdict = "" if goal is None else f"≥ {goal:.0%} {'met' if good >= goal * total[group] else 'missed'}"
        share = f"{good} ({good / len(mine):.1%})" if mine else "0"
        of = f"{len(mine)}" if len(mine) == total[group] else f"{len(mine)} of {total[group]}"
        failed = status["failed"] + status["unbuilt"]
        lines.append(f"| {title} | {of} | {share} | {verdict} | {status['refused']} | {failed} | {status['WRONG']} |")
    return lines


def _counted(row: Row) -> str:
    """The status; for a special folder ``proven`` if it had its expected result or error, else ``failed``."""
    if row["group"] != "folder" or row["status"] == "WRONG":
        return str(row["status"])
    error = row.get("expected_error")
    as_expected = error in row.get("kinds", ()) if error else row["status"] == "proven"
    return "proven" if as_expected else "failed"


def _by_task(rows: Sequence[Row]) -> list[str]:
    """For each task the number of entries whose answers are proven, and of the others."""
    kinds = ("proven", "graph only", "no pipeline", "refused")
    found: dict[str, Counter[str]] = {}
    for row in rows:
        if row["group"] == "folder":
            continue
        answers = _answers(row.get("answers"))
        kind = "refused" if row["status"] != "proven" else answers if answers in kinds else "proven"
        found.setdefault(row["hub_task"], Counter())[kind] += 1
    lines = ["| task | entries | answers proven | graph only | no pipeline | refused |", "|---|---|---|---|---|---|"]
    for task, counted in sorted(found.items()):
        lines.append(f"| {task} | {counted.total()} | {' | '.join(str(counted[kind]) for kind in kinds)} |")
    total = sum(found.values(), Counter[str]())
    lines.append(f"| all | {total.total()} | {' | '.join(str(total[kind]) for kind in kinds)} |")
    return lines


def _page(rows: Sequence[Row], counts: str) -> str:
    parts = [_INTRODUCTION, counts, "", "## Answers of each task", "", *_by_task(rows), ""]
    for group, title in GROUPS.items():
        mine = [row for row in rows if row["group"] == group]
        if mine:
            parts += [f"## {title}", "", _COLUMNS, "|---|---|---|---|---|---|---|---|---|---|", *map(_line, mine), ""]
    unproven = [row for row in rows if row["status"] != "proven"]
    if unproven:
        parts += ["## Entries that are not proven", "", *map(_reason, unproven), ""]
    return "\n".join(parts)


def _line(row: Row) -> str:
    limit = row.get("limit")
    cells = (
        row["model_type"] if row["group"] != "folder" else row["name"],
        row["hub_task"],
        row["status"] + (" before download" if row.get("early") else ""),
        _answers(row.get("answers")),
        row.get("recipe") or "",
        f"{row['largest']:.1e}" if row.get("largest") is not None else "",
        f"{limit['length']} ({limit['name']})" if limit else "",
        _opinion(row.get("opinion")),
        f"{row['seconds']:.0f}" if row.get("seconds") else "",
        f"{row['peak_rss'] / 1e6:.0f}" if row.get("peak_rss") and row.get("recipe") else "",
    )
    return f"| {' | '.join(cells)} |"


def _answers(found: Row | None) -> str:
    if found is None:
        return ""
    if found["status"] == "proven":
        return f"{found['cases']} equal"
    return "no pipeline" if "has no pipeline" in found["reason"] else "graph only"


def _opinion(found: Row | None) -> str:
    if found is None:
        return ""
    if found.get("error") or not found.get("compared"):
        return "none"
    raised = f", {len(found['raised'])} sizes raise an error" if found.get("raised") else ""
    return f"{found['worst']:.1e}{raised}"


def _reason(row: Row) -> str:
    wrong = "; ".join((row.get("opinion") or {}).get("wrong", ()))
    return f"- {row['name']}: {row.get('error') or row['status']}: {wrong or _scrubbed(row)}"


def _without_folders(text: Any) -> str:
    """A text on one line, without local folders."""
    return re.sub(r"/\S*/", "", " ".join(str(text or "").split()))


def _scrubbed(row: Row) -> str:
    """The message on one line, without local folders."""
    return _without_folders(row.get("message"))[:300].replace("|", "\\|").replace("<", "\\<")


def _public(row: Row) -> dict[str, Any]:
    """The row without local paths."""
    kept = {key: value for key, value in row.items() if key not in ("path", "graphs", "log", "kinds")}
    if answers := row.get("answers"):
        kept["answers"] = {**answers, "reason": _without_folders(answers.get("reason"))}
    return {
        **kept,
        "graphs": sorted(row.get("graphs") or ()),
        "message": _scrubbed(row) if row.get("message") else None,
    }


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
