"""Repositories for search, pulled from their weights, answer as their own libraries do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpux import Settings, StoredModel, pipeline, pull_model
from gpux.model.late_interaction import HEAD, METADATA
from tests.pipelines.late_cases import DOCUMENTS, QUERIES, colbert_repository
from tests.pipelines.search_cases import CASES
from tests.pipelines.test_late_interaction import GOLDENS as VECTORS
from tests.pipelines.test_search import GOLDENS, answer, same

pytestmark = pytest.mark.toolchain


def pulled(folder: Path, toolchains: Path) -> StoredModel:
    return pull_model(folder, settings=Settings.from_env(toolchains=toolchains, offline=True))


@pytest.mark.parametrize(
    ("name", "task", "stored"),
    [
        ("one label, with modules", "text-ranking", "text-classification"),
        ("splade, max", "sparse-embedding", "fill-mask"),
    ],
)
def test_as_sentence_transformers(name: str, task: str, stored: str, tmp_path: Path, warm_toolchains: Path) -> None:
    model = pulled(CASES[name].build(tmp_path / "model"), warm_toolchains)
    answers: Any = model.manifest.proof.answers
    assert (model.task, model.manifest.proof.status, answers.status) == (stored, "proven", "proven")
    with pipeline(task, model) as pipe:
        for call, wanted in zip(CASES[name].calls, GOLDENS[name], strict=True):
            same(answer(pipe, *call), wanted)


def test_the_vectors_of_a_colbert(tmp_path: Path, warm_toolchains: Path) -> None:
    model = pulled(colbert_repository(tmp_path / "model", "checkpoint"), warm_toolchains)
    assert model.task == "feature-extraction" and {HEAD, METADATA} <= {file.name for file in model.path.iterdir()}
    with pipeline("late-interaction", model) as pipe:
        found = [*pipe.encode_query(QUERIES), *pipe.encode_document(DOCUMENTS)]
    for vectors, expected in zip(found, [*VECTORS["queries"], *VECTORS["documents"]], strict=True):
        assert np.abs(vectors - np.array(expected)).max() < 5e-5
