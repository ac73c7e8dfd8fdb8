"""Vectors of tokens as fastembed gives them, in every layout of a ColBERT, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gpux.errors import InputError, UnsupportedError, UsageError
from gpux.model.late_interaction import HEAD
from gpux.pipelines.text.late_interaction import LateInteractionPipeline, maxsim
from gpux.pull.colbert import place_head
from tests.models.cases import words
from tests.pipelines.conftest import Build, stored
from tests.pipelines.late_cases import DIMENSION, DOCUMENTS, QUERIES, colbert_repository, head

GOLDENS = json.loads((Path(__file__).parent / "late_goldens.json").read_text())


@pytest.fixture
def colbert(tmp_path: Path) -> Iterator[LateInteractionPipeline]:
    model = stored(colbert_repository(tmp_path / "model", "stanford"), "feature-extraction")
    with LateInteractionPipeline(model) as pipe:
        yield pipe


@pytest.mark.parametrize("layout", ["graph", "stanford", "pylate"])
def test_as_fastembed(layout: str, tmp_path: Path) -> None:
    with LateInteractionPipeline(stored(colbert_repository(tmp_path / "model", layout), "feature-extraction")) as pipe:
        queries, documents = pipe.encode_query(QUERIES), pipe.encode_document(DOCUMENTS)
    for found, wanted in ((queries, GOLDENS["queries"]), (documents, GOLDENS["documents"])):
        for vectors, expected in zip(found, wanted, strict=True):
            assert vectors.dtype == np.float32 and vectors.shape == np.shape(expected)
            assert np.abs(vectors - np.array(expected)).max() < 2e-5


def test_documents_by_their_largest_products(colbert: LateInteractionPipeline) -> None:
    queries, documents = colbert.encode(QUERIES, is_query=True), colbert.encode(DOCUMENTS)
    scores = maxsim(queries, documents)
    assert scores.shape == (3, 5)
    assert scores[0, 1] == pytest.approx(float((queries[0] @ documents[1].T).max(axis=1).sum()), rel=1e-5)
    ranked = colbert.rank(QUERIES[0], DOCUMENTS, top_k=2, return_documents=True)
    assert [entry["corpus_id"] for entry in ranked] == np.argsort(-scores[0])[:2].tolist()
    assert ranked[0]["score"] == pytest.approx(float(scores[0].max()), rel=1e-5)
    assert ranked[0]["text"] == DOCUMENTS[ranked[0]["corpus_id"]]
    assert colbert.rank("a", []) == []
    assert colbert.dimension == DIMENSION and colbert.encode_query("a").shape == (32, DIMENSION)
    assert maxsim(queries, [documents[0][:0]])[0, 0] == 0


def test_texts_are_cut_to_the_lengths_of_the_model(colbert: LateInteractionPipeline) -> None:
    assert len(colbert.encode_document(words(200))) == 60
    assert len(colbert.encode_query(words(200))) == 32
    assert len(colbert.encode_document(words(200), max_length=20)) == 20
    with pytest.raises(InputError, match="has 202 tokens, and the limit is 59"):
        colbert.encode_document(words(200), truncation=False)
    with pytest.raises(UsageError, match="max_length is 0"):
        colbert.encode_document("a", max_length=0)
    with pytest.raises(InputError, match="text 0 is int"):
        colbert.encode_document([3])  # type: ignore[list-item]


def test_answers_are_lists(colbert: LateInteractionPipeline) -> None:
    [answer] = colbert.answers(["a fox"])
    assert np.array(json.loads(json.dumps(answer))).shape == (5, DIMENSION)
    assert colbert.render(answer)[0].text == "5 vectors of 16 numbers"
    assert [vectors.shape for vectors in colbert(iter(["a fox", "a"]))] == [(5, DIMENSION), (4, DIMENSION)]


def test_arrays_that_are_no_vectors_of_tokens(colbert: LateInteractionPipeline) -> None:
    query = colbert.encode_query("a")
    with pytest.raises(InputError, match="query 0 has the shape") as caught:
        maxsim(query, [query])  # type: ignore[arg-type]
    assert caught.value.hint == "Give lists of arrays: maxsim([query], [document, …])."
    with pytest.raises(InputError, match="document 1 has the shape"):
        maxsim([query], [query, query[:, :3]])


def test_other_models_are_refused(build: Build) -> None:
    with pytest.raises(UnsupportedError, match="no linear head"):
        LateInteractionPipeline(build())
    pooled = build(name="pooled", sentence_transformers={"pooling": "mean"})
    with pytest.raises(UnsupportedError, match=r"the module sentence_transformers\.models\.Pooling"):
        LateInteractionPipeline(pooled)


def test_a_vocabulary_without_markers(tmp_path: Path, build: Build) -> None:
    model = build()
    save_file({"linear.weight": head()}, model.path / HEAD)
    with pytest.raises(UnsupportedError, match=r"no token '\[unused0\]'"):
        LateInteractionPipeline(model)


def test_the_head_of_a_checkpoint_is_kept(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    weights = {"bert.embeddings.weight": np.ones((5, 32), np.float32), "linear.weight": head()}
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    (source / "config.json").write_text(json.dumps({"architectures": ["BertModel"]}))
    place_head(source, target)
    assert not (target / HEAD).exists()
    (source / "config.json").write_text(json.dumps({"architectures": ["HF_ColBERT"]}))
    place_head(source, target)
    assert (load_file(target / HEAD)["linear.weight"] == head()).all()
