"""Writes sentence-transformers repositories of the zoo's models and their vectors; run by the toolchain's interpreter.

    python sentence_reference.py CASES.json

CASES.json holds ``{"folder", "type", "task", "pooling", …}`` for each repository (see ``test_sentence_parity``), and
``texts``. Vectors are written to ``FOLDER.npz``, of every text alone: transformers' gpt2 counts padding on the left.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.models import zoo
from tests.models.sentence import move_modules, write_sentence_files


def build(case: dict[str, Any]) -> Path:
    """The repository of a case, with a tokenizer that pads, as those of embedding models do."""
    folder = Path(case["folder"])
    zoo.build(case["type"], "feature-extraction", folder)
    change(folder / "tokenizer_config.json", **case.get("tokenizer", {}))
    config = json.loads((folder / "config.json").read_text())
    hidden = config.get("hidden_size") or config.get("n_embd")
    if "sentence" in case:
        write_sentence_files(folder, case["sentence"], hidden=hidden, seed=0)
        move_modules(folder, case.get("layout", {}))
    return folder


def change(file: Path, **values: Any) -> None:
    """Change the first level of a JSON file."""
    content = {**json.loads(file.read_text()), **values}
    content["pad_token"] = content.get("pad_token") or content.get("eos_token")
    content["model_input_names"] = ["input_ids", "attention_mask"]
    file.write_text(json.dumps(content))


def main(file: Path) -> None:
    """Build every case and write its vectors."""
    for name in [name for name, module in sys.modules.items() if module is None]:
        del sys.modules[name]  # a warm interpreter hides some libraries, such as scikit-learn, which this one imports
    from sentence_transformers import SentenceTransformer

    content = json.loads(file.read_text())
    for case in content["cases"]:
        folder = build(case)
        model = SentenceTransformer(str(folder), device="cpu")
        vectors = np.stack([model.encode(text) for text in content["texts"]])
        np.savez(f"{folder}.npz", vectors=vectors)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
