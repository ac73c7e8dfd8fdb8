"""Write tests/pipelines/late_goldens.json: the vectors of fastembed for tests/pipelines/late_cases.py.

Run from the repository's root with a Python that has fastembed, onnx and safetensors:
``python scripts/update_late_goldens.py``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from fastembed.late_interaction.colbert import Colbert  # type: ignore[import-not-found]

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.pipelines.late_cases import DOCUMENTS, MARKERS, QUERIES, colbert_repository  # noqa: E402

FILE = ROOT / "tests" / "pipelines" / "late_goldens.json"


class WithSegments(Colbert):  # type: ignore[misc]
    """The graph of the tests reads segments too, which the graphs that fastembed knows do not."""

    def _preprocess_onnx_input(self, onnx_input: dict[str, Any], is_doc: bool = True, **options: Any) -> dict[str, Any]:
        found = super()._preprocess_onnx_input(onnx_input, is_doc, **options)
        return {**found, "token_type_ids": np.zeros_like(found["input_ids"])}


def rounded(vectors: Any) -> list[list[float]]:
    """Vectors of length 1, with five decimals; those of a query have another length in fastembed."""
    array = np.asarray(vectors)
    array = array / np.linalg.norm(array, axis=1, keepdims=True)
    return [[round(float(number), 5) for number in row] for row in array]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = colbert_repository(Path(name), "graph")
        (folder / "model.onnx").write_bytes((folder / "onnx" / "model.onnx").read_bytes())
        vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
        Colbert.QUERY_MARKER_TOKEN_ID, Colbert.DOCUMENT_MARKER_TOKEN_ID = (vocabulary[marker] for marker in MARKERS)
        model = WithSegments("colbert-ir/colbertv2.0", specific_model_path=str(folder))
        content = {
            "fastembed": version("fastembed"),
            "queries": [rounded(vectors) for vectors in model.query_embed(QUERIES)],
            "documents": [rounded(vectors) for vectors in model.embed(DOCUMENTS)],
        }
    FILE.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
