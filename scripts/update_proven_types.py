"""Write src/gpux/pipelines/proven_types.json from docs/coverage.json: model types whose answers are proven, by task.

    python -m scripts.update_proven_types

A type stands there if the answers of the pipeline to at least one model of the type were compared with those of
``transformers.pipeline`` or sentence-transformers, and were equal. ``./dev coverage_matrix`` writes it too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "src" / "gpux" / "pipelines" / "proven_types.json"


def proven_types(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Task -> model types, both sorted, from the rows of the coverage matrix."""
    found: dict[str, set[str]] = {}
    for row in rows:
        answers = row.get("answers") or {}
        if row["status"] == "proven" and answers.get("status") == "proven" and answers.get("cases"):
            found.setdefault(_task(row), set()).add(row["base"])
    return {task: sorted(types) for task, types in sorted(found.items())}


def _task(row: Mapping[str, Any]) -> str:
    """The task of the pipeline; models of pictures are stored for feature-extraction too, and have no tokenizer."""
    task = str(row["hub_task"])
    return "image-feature-extraction" if task == "feature-extraction" and not row.get("tokenizer") else task


def write(rows: Iterable[Mapping[str, Any]], target: Path = TARGET) -> None:
    """Write the file."""
    target.write_text(json.dumps(proven_types(rows), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(json.loads((ROOT / "docs" / "coverage.json").read_text(encoding="utf-8")))
