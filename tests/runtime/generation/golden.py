"""What transformers made of the same scores; scripts/update_generation_goldens.py writes both files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.runtime.generation.options import GenerationOptions

HERE = Path(__file__).parent
GOLDEN: dict[str, Any] = json.loads((HERE / "golden.json").read_text(encoding="utf-8"))
with np.load(HERE / "golden.npz") as _arrays:
    ARRAYS: dict[str, NDArray[np.float32]] = dict(_arrays)


def options(case: dict[str, Any], **more: Any) -> GenerationOptions:
    return GenerationOptions().with_options(**case["options"], **more)


def name(case: dict[str, Any]) -> str:
    said = " ".join(f"{key}={value}" for key, value in case["options"].items())
    return f"{case.get('scores') if isinstance(case.get('scores'), str) else case['prompt']} {said}".replace("/", "-")
