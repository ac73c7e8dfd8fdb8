"""The paths of text-embeddings-inference, and rankings as Cohere and Jina."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import InferenceClient

from gpux.store import Store
from gpux.system.settings import Settings
from tests.models.bert import bert_repository
from tests.pipelines.conftest import stored
from tests.server.running import CLASSIFIER, EMBEDDER, WRITER, Running, put, serving

RANKER = "tests/ranker"
SECOND = "tests/second"  #: another one of vectors
TEXTS = ["the cat", "a", "dogs and cats"]


@pytest.fixture(scope="module")
def ranking(filled_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with a cross-encoder beside a classifier, and with two models of vectors."""
    home = tmp_path_factory.mktemp("ranking") / "home"
    shutil.copytree(filled_home, home, ignore=shutil.ignore_patterns("server*", "logs"))
    folder = tmp_path_factory.mktemp("ranker")
    path = bert_repository(folder / "ranker", "text-classification", onnx=True, safetensors=False, labels=["score"])
    store = Store(Settings.from_env({"GPUX_HOME": str(home)}).store)
    put(store, stored(path, "text-classification"), RANKER)
    path = bert_repository(folder / "second", "feature-extraction", onnx=True, safetensors=False, seed=1)
    put(store, stored(path, "feature-extraction"), SECOND)
    with serving(home, ["--tei-model", RANKER]) as running:
        yield running


def test_texts_are_embedded_with_the_length_1(server: Running) -> None:
    found = server.post("/embed", {"inputs": TEXTS}).json()
    assert [len(one) for one in found] == [32, 32, 32]
    assert sum(value * value for value in found[0]) == pytest.approx(1, abs=1e-5)
    assert server.post("/embed", {"inputs": TEXTS[0]}).json() == [pytest.approx(found[0], abs=1e-6)]
    raw = server.post("/embed", {"inputs": TEXTS[0], "normalize": False, "dimensions": 4}).json()
    assert len(raw[0]) == 4


def test_the_longest_text_is_known_before_the_model_is_loaded(ranking: Running) -> None:
    assert ranking.get(f"/info?model={EMBEDDER}").json()["max_input_length"] == 64


def test_the_address_alone_stands_for_the_path_of_the_task(server: Running, ranking: Running) -> None:
    assert server.post("/", {"inputs": TEXTS}).json() == server.post("/embed", {"inputs": TEXTS}).json()
    vectors = InferenceClient(model=server.url, provider="hf-inference", token="none").feature_extraction(TEXTS)
    assert vectors.shape == (3, 32)
    body = {"inputs": "the cat", "model": CLASSIFIER}
    assert server.post("/", body).json() == server.post("/predict", body).json()
    assert server.post(f"/?model={CLASSIFIER}", {"inputs": "a"}).json()[0]["label"]
    body = {"query": "the cat", "texts": TEXTS}
    assert ranking.post("/", body).json() == ranking.post("/rerank", body).json()
    several = ranking.post("/", {"inputs": "a"})
    assert (several.status_code, several.json()["error_type"]) == (400, "Validation")
    assert "2 models of feature-extraction" in several.json()["error"]
    for given in ({}, {"inputs": "a", "model": WRITER}, {"inputs": "a", "model": "org/missing"}, {"inputs": 3}):
        found = server.post("/", given)
        assert 400 <= found.status_code < 500
        assert set(found.json()) >= {"error", "error_type"}


def test_tokens_are_embedded(server: Running) -> None:
    assert [len(one) for one in server.post("/embed_all", {"inputs": "the cat"}).json()[0]] == [32] * 4


def test_sparse_vectors_have_weights_above_zero(server: Running) -> None:
    found = server.post("/embed_sparse", {"inputs": "the cat"}).json()
    assert found[0]
    assert all(one["value"] > 0 for one in found[0])


def test_sentences_are_compared(server: Running) -> None:
    body = {"inputs": {"source_sentence": "the cat", "sentences": ["the cat", "a"]}}
    assert server.post("/similarity", body).json()[0] == pytest.approx(1, abs=1e-5)


def test_labels_are_sorted_and_one_input_has_one_list(server: Running) -> None:
    one = server.post("/predict", {"inputs": "the cat"}).json()
    assert [label["score"] for label in one] == sorted((label["score"] for label in one), reverse=True)
    assert sum(label["score"] for label in one) == pytest.approx(1, abs=1e-5)
    both = server.post("/predict", {"inputs": [["the cat"], ["the cat", "a"]]}).json()
    assert both[0] == [{**label, "score": pytest.approx(label["score"], abs=1e-6)} for label in one]
    assert both[1] == server.post("/predict", {"inputs": ["the cat", "a"]}).json()
    raw = server.post("/predict", {"inputs": "the cat", "raw_scores": True}).json()
    assert sum(label["score"] for label in raw) != pytest.approx(1, abs=1e-3)


def test_tokens_have_their_places_and_are_decoded(server: Running) -> None:
    found = server.post("/tokenize", {"inputs": "the cats"}).json()[0]
    assert found[0] == {"id": 2, "text": "[CLS]", "special": True, "start": None, "stop": None}
    assert found[1] == {"id": 101, "text": "the", "special": False, "start": 0, "stop": 3}
    ids = [one["id"] for one in found]
    assert server.post("/decode", {"ids": ids}).json() == ["the cats"]
    assert server.post("/decode", {"ids": [ids, ids[:2]], "skip_special_tokens": False}).json()[1] == "[CLS] the"
    other = server.post(f"/tokenize?model={WRITER}", {"inputs": "ab", "add_special_tokens": False}).json()[0]
    assert [one["text"] for one in other] == ["a", "b"]


def test_a_ranking_has_the_best_text_first(ranking: Running) -> None:
    found = ranking.post("/rerank", {"query": "the cat", "texts": TEXTS, "return_text": True}).json()
    scores = [one["score"] for one in found]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score < 1 for score in scores)
    assert all(one["text"] == TEXTS[one["index"]] for one in found)
    raw = ranking.post("/rerank", {"query": "the cat", "texts": TEXTS, "raw_scores": True}).json()
    assert [one["index"] for one in raw] == [one["index"] for one in found]
    assert "text" not in raw[0]
    assert [one["score"] for one in raw] != scores


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
def test_documents_are_ranked_as_cohere_and_jina_do(ranking: Running, path: str) -> None:
    body = {"model": RANKER, "query": "the cat", "documents": [TEXTS[0], {"text": TEXTS[1]}, TEXTS[2]], "top_n": 2}
    found = ranking.post(path, {**body, "return_documents": True}).json()
    by_texts = ranking.post("/rerank", {"query": "the cat", "texts": TEXTS}).json()
    assert [one["index"] for one in found["results"]] == [one["index"] for one in by_texts[:2]]
    assert found["results"][0]["relevance_score"] == pytest.approx(by_texts[0]["score"], abs=1e-6)
    assert found["results"][0]["document"] == {"text": TEXTS[found["results"][0]["index"]]}
    assert found["usage"]["total_tokens"] > 0


def test_a_model_of_vectors_ranks_where_it_is_named(server: Running) -> None:
    body = {"model": EMBEDDER, "query": "the cat", "documents": ["a", "the cat"]}
    assert server.post("/v1/rerank", body).json()["results"][0]["index"] == 1


def test_the_model_of_a_path_is_the_setting_else_the_only_one(ranking: Running, server: Running) -> None:
    assert server.get("/info").json()["model_id"] == EMBEDDER
    assert ranking.get(f"/info?model={RANKER}").json()["model_id"] == RANKER
    assert ranking.post("/predict", {"inputs": "a", "model": CLASSIFIER}).status_code == 200


def test_the_only_loaded_model_answers_where_several_are_stored_and_else_they_are_named(ranking: Running) -> None:
    answer = ranking.post("/embed", {"inputs": "a"})
    assert answer.status_code == 400
    assert f"{EMBEDDER}, {SECOND}" in answer.json()["error"]
    assert ranking.post("/embed", {"inputs": "a", "model": EMBEDDER}).status_code == 200
    assert ranking.post("/embed", {"inputs": "a"}).status_code == 200
    assert ranking.post(f"/embed?model={SECOND}", {"inputs": "a"}).status_code == 200
    assert ranking.post("/embed", {"inputs": "a"}).status_code == 400


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/embed", {}, 422, "`inputs`"),
        ("/embed", {"inputs": []}, 400, "inputs is empty"),
        ("/embed", {"inputs": ["a", ""]}, 400, "inputs[1] is empty"),
        ("/embed", {"inputs": [[1, 2]]}, 422, "not a text"),
        ("/embed", {"inputs": "the " * 100, "truncate": False}, 413, "truncate: true"),
        ("/embed", {"inputs": "a", "truncation_direction": "Left"}, 422, "on the right"),
        ("/embed", {"inputs": "a", "prompt_name": "unknown"}, 422, "no prompt"),
        ("/embed", {"inputs": "a", "dimensions": 1000}, 422, "1000 dimensions"),
        ("/embed", {"inputs": "a", "model": CLASSIFIER}, 422, "is stored for text-classification"),
        ("/embed", {"inputs": "a", "model": "org/missing"}, 404, "not stored"),
        ("/embed", {"inputs": ["a"] * 3000}, 413, "3000 inputs"),
        ("/predict", {"inputs": ["a", "b", "c"]}, 422, "pair"),
        ("/predict", {"inputs": []}, 400, "empty"),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": []}}, 400, "sentences is empty"),
        ("/decode", {"ids": [10**6]}, 422, "between 0 and"),
        ("/decode", {"ids": []}, 400, "ids is empty"),
        ("/tokenize", {"inputs": 3}, 422, "inputs"),
        ("/rerank", {"query": "a"}, 422, "no texts"),
        ("/rerank", {"query": "a", "texts": []}, 400, "texts is empty"),
        ("/rerank", {"query": "a", "texts": ["b"], "model": CLASSIFIER}, 422, "ranked by one score"),
    ],
)
def test_an_error_has_the_status_and_shape_of_tei(
    server: Running, path: str, body: Any, status: int, words: str
) -> None:
    answer = server.post(path, body)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]
    assert answer.json()["error_type"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"query": "a"}, "documents"),
        ({"query": "a", "documents": []}, "documents is empty"),
        ({"query": "a", "documents": [1]}, "documents[0]"),
        ({"query": "", "documents": ["a"]}, "query is empty"),
        ({"query": "a", "documents": ["a"], "top_n": 0}, "top_n"),
    ],
)
def test_an_error_of_a_ranking_has_a_message(server: Running, body: Any, words: str) -> None:
    answer = server.post("/v1/rerank", body)
    assert answer.status_code == 400
    assert words in answer.json()["message"]
    assert words in answer.json()["error"]["message"]
