"""Converted embedding models give sentence-transformers' vectors, computed in the toolchain in the test run."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from gpux import Settings, pull_model
from gpux.convert.host.pip import interpreter
from gpux.pipelines.text.feature_extraction import FeatureExtractionPipeline
from tests.pipelines import sentence_reference

pytestmark = pytest.mark.toolchain

TEXTS = [
    "hello there",
    "the quick brown fox jumps over the lazy dog while the small cat sleeps",
    "a",
    "Paris is the capital of France. Berlin is the capital of Germany.",
    "déjà vu über",
]
#: Name -> a zoo type, and what its repository says.
CASES: dict[str, dict[str, Any]] = {
    "qwen3": {"type": "qwen3", "sentence": {"pooling": "lasttoken", "normalize": True}},
    "qwen3-left": {
        "type": "qwen3",
        "sentence": {"pooling": "lasttoken"},
        "tokenizer": {"padding_side": "left"},
    },
    "e5-like": {  # its tokenizer_config.json says more than its tokenizer.json, as that of e5-mistral
        "type": "llama",
        "sentence": {"pooling": "lasttoken", "normalize": True},
        "tokenizer": {"add_eos_token": True, "padding_side": "left"},
    },
    "gpt2": {"type": "gpt2", "sentence": {"pooling": "weightedmean"}},
    "old-layout": {
        "type": "roberta",
        "sentence": {"pooling": "mean", "dense": 24, "normalize": True},
        "layout": {"Transformer": "0_Transformer", "Pooling": "pooling/", "Dense": "head/dense"},
    },
    "gemma3": {"type": "gemma3_text", "sentence": {"pooling": "mean", "dense": 24}},
}


@pytest.fixture(scope="module")
def repositories(warm_toolchains: Path, shared_folder: Callable[[str], Path]) -> Path:
    """All repositories with their vectors."""
    root = shared_folder("sentence")
    with FileLock(root / "lock"):
        if not (root / "done").exists():
            write(root, interpreter(warm_toolchains / "optimum"))
            (root / "done").touch()
    return root


def write(root: Path, python: Path) -> None:
    cases = [{**case, "folder": str(root / name)} for name, case in CASES.items()]
    (root / "cases.json").write_text(json.dumps({"texts": TEXTS, "cases": cases}))
    subprocess.run([python, sentence_reference.__file__, root / "cases.json"], check=True, capture_output=True)


@pytest.mark.parametrize("name", CASES)
def test_as_sentence_transformers(repositories: Path, warm_toolchains: Path, name: str) -> None:
    settings = Settings.from_env(toolchains=warm_toolchains, offline=True)
    wanted = np.load(repositories / f"{name}.npz")["vectors"]
    with FeatureExtractionPipeline(pull_model(repositories / name, settings=settings)) as pipe:
        together, alone = pipe.encode(TEXTS), np.stack([pipe.encode(text) for text in TEXTS])
    for found in (together, alone):
        norms = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
        assert ((found * wanted).sum(axis=1) / norms).min() >= 0.9999
        assert np.allclose(found, wanted, atol=1e-4)
