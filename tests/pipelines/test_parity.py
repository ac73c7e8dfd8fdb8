"""The same answers as transformers 4.57 and sentence-transformers 5.7, from golden files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpux.model.variant import StoredModel
from gpux.pipelines.registry import pipeline_class
from gpux.pipelines.text.feature_extraction import FeatureExtractionPipeline
from tests.models.cases import MINILM_CALLS, PIPELINE_CASES, SENTENCE_CASES, Case, expected
from tests.pipelines.conftest import stored


def assert_same(actual: Any, wanted: Any, where: str = "answer") -> None:
    """Equal except for float32 rounding: same nesting, keys and texts."""
    if isinstance(wanted, dict):
        assert isinstance(actual, dict) and actual.keys() == wanted.keys(), where
        for key, value in wanted.items():
            assert_same(actual[key], value, f"{where}.{key}")
    elif isinstance(wanted, list):
        assert isinstance(actual, list) and len(actual) == len(wanted), where
        for index, value in enumerate(wanted):
            assert_same(actual[index], value, f"{where}[{index}]")
    elif isinstance(wanted, float):
        assert actual == pytest.approx(wanted, abs=1e-5), where
    else:
        assert actual == wanted, where


@pytest.mark.parametrize("case", PIPELINE_CASES, ids=lambda case: f"{case.task}, {case.name}")
def test_as_transformers(case: Case, tmp_path: Path) -> None:
    model = stored(case.build(tmp_path / "model", onnx=True), case.task)
    with pipeline_class(case.task)(model) as pipe:
        for call in case.calls:
            assert_same(pipe(call.input, **call.options), expected(case.task, case.name, call), call.name)


@pytest.mark.parametrize("case", SENTENCE_CASES, ids=lambda case: case.name)
def test_as_sentence_transformers(case: Case, tmp_path: Path) -> None:
    with FeatureExtractionPipeline(stored(case.build(tmp_path / "model", onnx=True), case.task)) as pipe:
        for call in case.calls:
            vectors = pipe.encode(call.input, **call.options)
            assert_same(vectors.tolist(), expected("sentence-vectors", case.name, call), call.name)
            if "truncate_dim" not in call.options:
                assert vectors.shape[-1] == pipe.dimension


def test_the_real_minilm(minilm: StoredModel) -> None:
    """Texts of 0, 8, 7, 200 and 600 tokens: above the 128 of its tokenizer.json and above its limit of 256."""
    with FeatureExtractionPipeline(minilm) as pipe:
        assert pipe.max_seq_length == 256
        for call in MINILM_CALLS:
            actual, wanted = (
                pipe.encode(call.input, **call.options),
                np.array(expected("minilm", "all-MiniLM-L6-v2", call)),
            )
            cosine = (actual * wanted).sum(1) / np.linalg.norm(actual, axis=1) / np.linalg.norm(wanted, axis=1)
            assert cosine.min() >= 0.99999
            assert np.abs(actual - wanted).max() < 1e-5
