"""Write tests/pipelines/search_goldens.json: the answers of sentence-transformers to tests/pipelines/search_cases.py.

Run from the repository's root with a Python that has sentence-transformers, such as a toolchain's:
``python scripts/update_search_goldens.py``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import sentence_transformers
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.pipelines.search_cases import CASES, Case  # noqa: E402

FILE = ROOT / "tests" / "pipelines" / "search_goldens.json"


def answer(model: Any, method: str, arguments: list[Any], options: dict[str, Any]) -> Any:
    """The answer to one call; texts are encoded first where a method takes vectors."""
    if method in ("similarity", "similarity_pairwise"):
        return plain(getattr(model, method)(*(model.encode(texts) for texts in arguments)))
    if method == "decode":
        return plain(model.decode(model.encode(*arguments), **options))
    return plain(getattr(model, method)(*arguments, **options))


def plain(value: Any) -> Any:
    """JSON-able, with six significant digits; a sparse vector as its indices and values."""
    if isinstance(value, torch.Tensor) and value.is_sparse:
        rows = [value] if value.ndim == 1 else list(value)
        found = [
            {"indices": plain(row.coalesce().indices()[0]), "values": plain(row.coalesce().values())} for row in rows
        ]
        return found[0] if value.ndim == 1 else found
    if isinstance(value, (torch.Tensor, np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def answers(case: Case) -> list[Any]:
    """The answers to the calls of a case, in order."""
    with tempfile.TemporaryDirectory() as folder:
        kind = getattr(sentence_transformers, case.library)
        model = kind(str(case.build(Path(folder))), device="cpu")
        return [answer(model, *call) for call in case.calls]


def main() -> None:
    goldens = {name: answers(case) for name, case in CASES.items()}
    content = {"sentence-transformers": sentence_transformers.__version__, "cases": goldens}
    FILE.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
