"""Computes preferences.json, the order in which converters are tried, from the rows of the coverage matrix."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from gpux.convert.registry import converters
from gpux.system.settings import Settings

Row = Mapping[str, Any]
#: Weights, in bytes, at which the memory of two converters is compared: a decoder of 125 million parameters.
_WEIGHTS = 500_000_000


def preferences(rows: Iterable[Row]) -> dict[str, dict[str, list[str]]]:
    """Task -> model type -> converters that were proven for it, the best first.

    Converters are ordered by the number of failures among the variants of the type (a refusal by the configuration is
    not a failure, since the plan skips the converter), then by peak memory, then by time. A converter with a wrong
    result is left out. Peak memory is the estimate for a model of real size, since a tiny model needs little more than
    the libraries.
    """
    groups: dict[tuple[str, str], dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in _relevant(list(rows)):
        converter = row["requested_converter"] or str(row.get("recipe") or "")
        if converter:
            groups[row["hub_task"], row["base"]][converter].append(row)
    found: dict[str, dict[str, list[str]]] = {}
    for (task, model_type), tried in sorted(groups.items()):
        order = _order(tried)
        if order:
            found.setdefault(task, {})[model_type] = order
    return found


def _relevant(rows: list[Row]) -> list[Row]:
    """Rows with a requested converter, and the planner's rows of entries without such a row; no special folders."""
    named = {row["name"] for row in rows if row["requested_converter"]}
    return [
        row for row in rows if row["group"] != "folder" and (row["requested_converter"] or row["name"] not in named)
    ]


def _order(tried: Mapping[str, list[Row]]) -> list[str]:
    proven = {
        converter: [row for row in rows if row["status"] == "proven"]
        for converter, rows in tried.items()
        if not any(row["status"] == "WRONG" for row in rows)
    }
    return sorted((converter for converter, rows in proven.items() if rows), key=lambda name: _rank(name, tried[name]))


def _peak_memory(converter: str) -> int:
    return converters(Settings.from_env())[converter].peak_memory(_WEIGHTS)


def _rank(converter: str, rows: list[Row]) -> tuple[int, int, float]:
    failed = sum(row["status"] != "proven" and not row.get("early") for row in rows)
    seconds = [row.get("seconds") or 0 for row in rows if row["status"] == "proven"]
    return failed, _peak_memory(converter), sum(seconds) / len(seconds)
