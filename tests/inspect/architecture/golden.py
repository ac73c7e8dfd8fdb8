"""The golden table: published configurations, and the counts of scripts/confirm_counts.py, which built each model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
GOLDEN: dict[str, dict[str, Any]] = json.loads((HERE / "golden.json").read_text(encoding="utf-8"))
NAMES = sorted(GOLDEN)


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / "configs" / f"{name}.json").read_text(encoding="utf-8"))
    return found
