"""Similarities, ranks and sparse vectors, as sentence-transformers 5.7 gives them, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpux.errors import InputError, UnsupportedError, UsageError
from gpux.pipelines.base import Pipeline
from gpux.pipelines.text.sentence_similarity import SentenceSimilarityPipeline
from gpux.pipelines.text.sparse_embedding import SparseEmbeddingPipeline, SparseVector
from gpux.pipelines.text.text_ranking import TextRankingPipeline
from gpux.pipelines.text.vectors import quantize_vectors
from tests.models.cases import words
from tests.pipelines.conftest import Build, stored
from tests.pipelines.search_cases import CASES, Case

GOLDENS = json.loads((Path(__file__).parent / "search_goldens.json").read_text())["cases"]
PIPELINES: dict[str, type[Pipeline]] = {
    "CrossEncoder": TextRankingPipeline,
    "SentenceTransformer": SentenceSimilarityPipeline,
    "SparseEncoder": SparseEmbeddingPipeline,
}


def answer(pipe: Any, method: str, arguments: list[Any], options: dict[str, Any]) -> Any:
    if method in ("similarity", "similarity_pairwise"):
        return getattr(pipe, method)(*(pipe.encode(texts) for texts in arguments))
    if method == "decode":
        return pipe.decode(pipe.encode(*arguments), **options)
    return getattr(pipe, method)(*arguments, **options)


def same(actual: Any, wanted: Any) -> None:
    """Equal but for rounding of float32; small weights of a sparse vector may be left out on either side."""
    if isinstance(actual, SparseVector):
        found, weights = actual.as_dict(), dict(zip(wanted["indices"], wanted["values"], strict=True))
        for index in found.keys() | weights.keys():
            assert found.get(index, 0.0) == pytest.approx(weights.get(index, 0.0), rel=1e-5, abs=2e-5)
    elif isinstance(wanted, list) and wanted and isinstance(wanted[0], (list, dict)):
        assert len(actual) == len(wanted)
        for one, other in zip(actual, wanted, strict=True):
            same(one, other)
    elif isinstance(wanted, dict):
        numbers = {key: pytest.approx(value, abs=2e-5) for key, value in wanted.items() if isinstance(value, float)}
        assert actual == {**wanted, **numbers}
    elif isinstance(wanted, list) and wanted and isinstance(wanted[0], str):  # an entry and its weight
        assert actual == (wanted[0], pytest.approx(wanted[1], rel=1e-5, abs=2e-5))
    elif np.asarray(actual).dtype.kind in "iu":  # a value on the edge between two steps
        assert np.abs(np.asarray(actual, np.int64) - np.array(wanted)).max() <= 1
    else:
        assert np.allclose(actual, wanted, rtol=1e-5, atol=5e-5)


@pytest.mark.parametrize("name", CASES)
def test_as_sentence_transformers(name: str, tmp_path: Path) -> None:
    case: Case = CASES[name]
    with PIPELINES[case.library](stored(case.build(tmp_path / "model", onnx=True), case.task)) as pipe:
        for call, wanted in zip(case.calls, GOLDENS[name], strict=True):
            same(answer(pipe, *call), wanted)


@pytest.fixture
def compare(build: Build) -> Iterator[SentenceSimilarityPipeline]:
    with SentenceSimilarityPipeline(build(sentence_transformers={"pooling": "mean"})) as pipe:
        yield pipe


@pytest.fixture
def ranking(build: Build) -> Iterator[TextRankingPipeline]:
    with TextRankingPipeline(build("text-classification", labels=["relevant"])) as pipe:
        yield pipe


@pytest.fixture
def sparse(build: Build) -> Iterator[SparseEmbeddingPipeline]:
    with SparseEmbeddingPipeline(build("fill-mask")) as pipe:
        yield pipe


def test_a_call_compares_with_the_source(compare: SentenceSimilarityPipeline) -> None:
    question = {"source_sentence": "a fox", "sentences": ["the dog", "a fox", words(90)]}
    vectors = compare.encode([question["source_sentence"], *question["sentences"]])
    scores = compare(question)
    assert scores == pytest.approx(compare.similarity(vectors[0], vectors[1:])[0].tolist(), abs=1e-6)
    assert scores[1] == pytest.approx(1)
    assert compare([question, question]) == [pytest.approx(scores, abs=1e-6)] * 2
    assert compare.answers([json.dumps(question)]) == [pytest.approx(scores, abs=1e-6)]
    assert list(compare(iter([question]))) == [pytest.approx(scores, abs=1e-6)]
    assert compare({"source_sentence": "a", "sentences": []}) == []
    assert compare({"source_sentence": "a fox", "sentences": "the dog"}) == [pytest.approx(scores[0], abs=1e-6)]
    assert [row.text for row in compare.render(scores)] == ["sentence 1", "sentence 2", "sentence 3"]
    assert compare(question, similarity="euclidean")[1] == pytest.approx(0, abs=1e-5)


def test_options_of_the_pipeline_hold_for_encode(build: Build) -> None:
    model = build(sentence_transformers={"prompts": {"query": "query: "}})
    with SentenceSimilarityPipeline(model, truncate_dim=8, prompt_name="query", similarity="dot") as pipe:
        assert pipe.encode("fox").shape == (8,) and pipe.dimension == 8 and pipe.similarity_fn_name == "dot"
        assert pipe.encode("fox", truncate_dim=4).shape == (4,)
        assert np.allclose(pipe.encode("fox"), pipe.encode("query: fox", prompt=""), atol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("a text", "input 0 is a text that is not JSON"),
        (b"bytes", "an object is expected, and bytes was given"),
        (7, "an object is expected, and int was given"),
        ([{"source_sentence": "a", "sentences": ["b"]}, None], "input 1 is NoneType, not an object"),
        ({"sentences": ["b"]}, "input 0 has no 'source_sentence', not a text"),
        ({"source_sentence": "a", "sentences": 3}, "input 0 has 'sentences' of the type int, not a list of texts"),
        ({"source_sentence": "a", "sentences": ["b", 3]}, "input 0: sentence 1 is int, not str"),
        ({"source_sentence": "a", "sentence": ["b"]}, "input 0 has the unknown keys sentence"),
        ({"source_sentence": "\ud800", "sentences": []}, "input 0: text 0 is not valid Unicode"),
    ],
)
def test_inputs_of_another_form(compare: SentenceSimilarityPipeline, inputs: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        compare(inputs)
    assert message in caught.value.message


def test_the_hint_about_an_input_can_be_followed(compare: SentenceSimilarityPipeline) -> None:
    with pytest.raises(InputError) as caught:
        compare("a text")
    assert caught.value.hint is not None
    assert len(compare(caught.value.hint.removeprefix("Give ").removesuffix("."))) == 2


def test_a_document_is_named_by_its_place(ranking: TextRankingPipeline) -> None:
    documents = ["a fox", words(90), "the dog"]
    ranked = ranking({"query": "a fox", "texts": documents}, return_documents=True)
    assert ranked == ranking.rank("a fox", documents, return_documents=True)
    assert sorted(entry["corpus_id"] for entry in ranked) == [0, 1, 2]
    assert all(entry["text"] == documents[entry["corpus_id"]] for entry in ranked)
    scores = ranking.predict([("a fox", text) for text in documents])
    assert [entry["score"] for entry in ranked] == pytest.approx(sorted(scores, reverse=True))
    assert ranking.rank("a", []) == [] and ranking.predict([]).shape == (0,)
    assert [row.text for row in ranking.render(ranked)] == [entry["text"] for entry in ranked]
    assert ranking.rank("a fox", iter(documents), top_k=1)[0]["corpus_id"] == ranked[0]["corpus_id"]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("a text", "pairs of texts are expected, and str was given"),
        ([("a", "b", "c")], "input 0 is not a pair of texts"),
        ([("a", "b"), ("a", 3)], "input 1 is not a pair of texts"),
        ([("a", "\ud800")], "pair 0 is not valid Unicode"),
    ],
)
def test_what_is_not_a_pair(ranking: TextRankingPipeline, pairs: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        ranking.predict(pairs)
    assert message in caught.value.message


def test_long_pairs_are_refused_if_nothing_may_be_cut(ranking: TextRankingPipeline) -> None:
    with pytest.raises(InputError, match="has 96 tokens"):
        ranking.rank("a fox", [words(91)], truncation=False)
    with pytest.raises(InputError, match="the query is bytes"):
        ranking.rank(b"a", ["b"])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="top_k is 0"):
        ranking.rank("a", ["b"], top_k=0)
    with pytest.raises(UsageError, match="activation_fn is 'gelu'"):
        ranking.predict([("a", "b")], activation_fn="gelu")  # type: ignore[arg-type]


def test_several_labels_give_no_order(build: Build) -> None:
    with TextRankingPipeline(build("text-classification")) as pipe, pytest.raises(UnsupportedError) as caught:
        pipe.rank("a", ["b"])
    assert "negative, neutral, positive" in caught.value.message
    assert caught.value.hint == "Call predict(pairs) for the scores of all labels."


def test_an_unknown_activation_of_torch(build: Build) -> None:
    model = build("text-classification", labels=["relevant"])
    config = json.loads((model.path / "config.json").read_text())
    config["sentence_transformers"] = {"activation_fn": "torch.nn.modules.activation.Softsign"}
    (model.path / "config.json").write_text(json.dumps(config))
    with TextRankingPipeline(model) as pipe:
        with pytest.raises(UnsupportedError) as caught:
            pipe.predict([("a", "b")])
        assert "activation_fn=" in str(caught.value.hint)
        assert pipe.predict([("a", "b")], activation_fn="tanh").shape == (1,)


def test_a_sparse_vector_in_other_forms(sparse: SparseEmbeddingPipeline) -> None:
    vector = sparse.encode("a fox")
    dense = vector.dense(512)
    assert np.flatnonzero(dense).tolist() == vector.indices.tolist() == list(vector.as_dict())
    assert vector.to_dict() == sparse.answers(["a fox"])[0]
    assert vector.as_object()["values"] is vector.values and len(vector) == len(vector.values)
    assert sparse.similarity(vector, [vector])[0, 0] == pytest.approx(float(np.square(vector.values).sum()), rel=1e-5)
    assert len(sparse.encode(["a fox"], max_active_dims=3)[0]) == 3
    rows = sparse.render(vector.to_dict())
    assert [row.text for row in rows[:2]] == [token for token, _ in sparse.decode(vector, top_k=2)]
    assert rows[-1].text == f"… and {len(vector) - 8} more"
    with pytest.raises(InputError, match="beyond the size 3"):
        vector.dense(3)
    with pytest.raises(InputError, match="vector 0 is ndarray"):
        sparse.similarity([dense], vector)  # type: ignore[list-item]


def test_sparse_vectors_follow_options(sparse: SparseEmbeddingPipeline) -> None:
    largest, summed = sparse.encode("a fox"), sparse.encode("a fox", pooling="sum")
    assert (summed.dense(512) >= largest.dense(512) - 1e-6).all()
    twice = sparse.encode("a fox", activation="log1p_relu")
    assert np.allclose(twice.values, np.log1p(largest.values), atol=1e-6)
    with pytest.raises(UsageError, match="pooling is 'mean'"):
        sparse.encode("a", pooling="mean")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="text 1 is int"):
        sparse.encode(["a", 3])  # type: ignore[list-item]


def test_modules_of_another_task(build: Build) -> None:
    dense = build("fill-mask", sentence_transformers={"pooling": "mean"})
    with pytest.raises(UnsupportedError, match="its modules are Transformer, Pooling"):
        SparseEmbeddingPipeline(dense)
    classifier = build("text-classification", name="other", sentence_transformers={"pooling": "mean"})
    with pytest.raises(UnsupportedError, match="a cross-encoder is one Transformer"):
        TextRankingPipeline(classifier)


def test_smaller_numbers(compare: SentenceSimilarityPipeline) -> None:
    vectors = compare.encode(["a fox", "the dog", words(12)])
    assert compare.encode("a fox", precision="binary").shape == (4,)
    ranges = np.stack([vectors.min(axis=0), vectors.max(axis=0)])
    whole = quantize_vectors(vectors, "uint8")
    assert (quantize_vectors(vectors[:1], "uint8", ranges=ranges) == whole[:1]).all()
    assert quantize_vectors(vectors[:0], "int8").shape == (0, 32)
    with pytest.raises(UsageError, match="precision is 'int4'"):
        compare.encode("a", precision="int4")  # type: ignore[call-overload]
    with pytest.raises(UsageError, match=r"not \(2, 32\)"):
        quantize_vectors(vectors, "int8", ranges=ranges[:, :3])


def test_vectors_that_cannot_be_compared(compare: SentenceSimilarityPipeline) -> None:
    vectors = compare.encode(["a fox", "the dog"])
    with pytest.raises(InputError, match="sizes 32 and 8"):
        compare.similarity(vectors, vectors[:, :8])
    with pytest.raises(InputError, match="2 and 1 vectors are not pairs"):
        compare.similarity_pairwise(vectors, vectors[:1])
    with pytest.raises(InputError, match="3 axes"):
        compare.similarity(vectors[None], vectors)
    with pytest.raises(InputError, match="the second array is not an array of numbers"):
        compare.similarity(vectors, ["a text"])


def test_an_unknown_similarity(build: Build) -> None:
    model = build(sentence_transformers={"pooling": "mean"})
    with pytest.raises(UsageError, match="similarity is 'hamming'"):
        SentenceSimilarityPipeline(model, similarity="hamming")  # type: ignore[arg-type]
    settings = model.path / "config_sentence_transformers.json"
    settings.write_text(json.dumps({"similarity_fn_name": "hamming"}))
    with pytest.raises(UnsupportedError, match="compares vectors by 'hamming'"):
        SentenceSimilarityPipeline(model)
    with SentenceSimilarityPipeline(model, similarity="cosine") as pipe:
        assert pipe.similarity_fn_name == "cosine"


def test_an_unknown_option_of_encode(compare: SentenceSimilarityPipeline) -> None:
    with pytest.raises(UsageError) as caught:
        compare.encode("a", truncate_dims=3)  # type: ignore[call-overload]
    assert caught.value.hint == "Did you mean truncate_dim?"
