from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gpux.errors import InputError, SessionError, UsageError
from gpux.model.variant import CallSpec
from gpux.pipelines.text.feature_extraction import FeatureExtractionPipeline
from tests.models.cases import SENTENCES, words
from tests.pipelines.conftest import Build

MIXED = [words(count) for count in (7, 1, 60, 3, 25, 25, 0, 90, 12)]


def test_arrays_instead_of_lists(embed: FeatureExtractionPipeline) -> None:
    lists, arrays = embed(MIXED), embed(MIXED, return_arrays=True)
    assert [array.shape for array in arrays] == [np.array(item).shape for item in lists]
    assert all(array.dtype == np.float32 for array in arrays)
    assert embed("fox", return_arrays=True).shape == (1, 3, 32)


def test_answers_are_in_the_order_of_the_texts(embed: FeatureExtractionPipeline) -> None:
    together = embed.encode(MIXED)
    for index, text in enumerate(MIXED):
        assert np.allclose(embed.encode(text), together[index], atol=1e-5)
        assert np.allclose(embed(text, return_arrays=True)[0], embed(MIXED, return_arrays=True)[index][0], atol=1e-5)


def test_vectors_as_rows(embed: FeatureExtractionPipeline, build: Build) -> None:
    [tokens] = embed.answers(["fox"])
    rows = embed.render(tokens)
    assert len(rows) == len(tokens[0]) == 3
    assert all(row.text.startswith("32 numbers: ") and row.text.endswith(" …") and row.score is None for row in rows)
    with FeatureExtractionPipeline(build(name="sentence", sentence_transformers={"normalize": True})) as pipe:
        [row] = pipe.render(pipe.encode("fox").tolist())
    assert row.text.startswith("32 numbers of norm 1.0000: ")


def test_answers_are_json_where_calls_give_arrays(build: Build) -> None:
    with FeatureExtractionPipeline(build(), return_arrays=True) as pipe:
        assert np.array(json.loads(json.dumps(pipe.answers(["fox"])))).shape == (1, 1, 3, 32)


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_batches_do_not_change_answers(embed: FeatureExtractionPipeline, batch_size: int) -> None:
    assert np.allclose(embed.encode(MIXED, batch_size=batch_size), embed.encode(MIXED), atol=1e-5)


def test_more_texts_than_are_tokenized_at_once(
    embed: FeatureExtractionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = embed.encode(MIXED)
    monkeypatch.setattr("gpux.pipelines.text.encoding._CHUNK", 2)
    assert np.allclose(embed.encode(MIXED), whole, atol=1e-5)
    with pytest.raises(InputError, match="text 3 ") as caught:  # the longest texts are tokenized first
        embed.encode(["a fox", "a red fox", "fox", words(200), "the fox"], truncation=False)
    assert caught.value.details["index"] == 3


def test_much_text_runs_on_one_thread_per_core(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    with FeatureExtractionPipeline(build(), device="cpu", threads=3) as pipe:
        whole, before = pipe.encode(MIXED), pipe.memory_bytes
        monkeypatch.setattr(FeatureExtractionPipeline, "budget", replace(pipe.budget, one_thread=30, one_thread_from=1))
        assert np.allclose(pipe.encode(MIXED), whole, atol=1e-5)
        assert pipe.memory_bytes == 2 * before
        assert np.allclose(pipe(MIXED[0], return_arrays=True)[0].mean(axis=0), whole[0], atol=1e-5)
    with pytest.raises(SessionError, match="closed"):
        pipe.encode(MIXED)


def test_a_large_graph_is_never_loaded_twice(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpux.pipelines.base.SECOND_COPY_BYTES", 1)
    with FeatureExtractionPipeline(build(), device="cpu", threads=3) as pipe:
        monkeypatch.setattr(FeatureExtractionPipeline, "budget", replace(pipe.budget, one_thread_from=1))
        before = pipe.memory_bytes
        pipe.encode(MIXED)
        assert pipe.memory_bytes == before


def test_padding_on_the_left(build: Build, embed: FeatureExtractionPipeline) -> None:
    """This BERT counts positions from the left, so the vectors differ; the test compares rows and shapes."""
    model = build(name="left", call_spec=CallSpec(padding_side="left", max_length=64))
    with FeatureExtractionPipeline(model) as left:
        assert [a.shape for a in left(MIXED, return_arrays=True)] == [a.shape for a in embed(MIXED, return_arrays=True)]
        assert np.allclose(left.encode(MIXED[:1]), embed.encode(MIXED[:1]), atol=1e-5)


def test_no_texts_give_no_vectors(embed: FeatureExtractionPipeline) -> None:
    assert embed([]) == []
    assert embed.encode([]).shape == (0, 32)
    assert embed.encode([]).dtype == np.float32


def test_an_empty_text_has_its_special_tokens(embed: FeatureExtractionPipeline) -> None:
    assert embed("", return_arrays=True).shape == (1, 2, 32)
    assert embed.encode("").shape == (32,)


@pytest.mark.parametrize("texts", [("a", "b"), np.array(["a", "b"]), (text for text in "ab"), {"a": 1}.keys()])
def test_any_iterable_of_texts(embed: FeatureExtractionPipeline, texts: Any) -> None:
    assert len(embed.encode(texts)) in (1, 2)


@pytest.mark.parametrize(
    "texts", [None, 3, b"bytes", ["a", None], ["a", 3], [["a"]], {"text": "a"}, ["a", float("nan")]]
)
def test_inputs_that_are_not_texts(embed: FeatureExtractionPipeline, texts: Any) -> None:
    with pytest.raises(InputError, match="text"):
        embed.encode(texts)
    with pytest.raises(InputError, match="text"):
        embed(texts)


def test_long_texts_are_cut_or_refused(embed: FeatureExtractionPipeline) -> None:
    assert embed(words(200), return_arrays=True).shape == (1, 64, 32)
    with pytest.raises(InputError, match="text 1 has 202 tokens, and the limit is 64") as caught:
        embed(["fox", words(200)], truncation=False)
    assert caught.value.details == {"index": 1, "tokens": 202, "limit": 64}
    with pytest.raises(InputError, match="202 tokens"):
        embed.encode(words(200), truncation=False)
    assert embed.encode(words(62), truncation=False).shape == (32,)


def test_a_smaller_limit(embed: FeatureExtractionPipeline) -> None:
    assert embed(words(20), max_length=5, return_arrays=True).shape == (1, 5, 32)
    assert np.allclose(embed.encode(words(20), max_length=5), embed.encode(words(3)), atol=1e-5)


def test_a_limit_above_the_graph_s_limit(embed: FeatureExtractionPipeline) -> None:
    assert embed(words(90), max_length=1000, return_arrays=True).shape == (1, 64, 32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 1}, "no option top_k"),
        ({"max_length": 0}, "max_length is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"tokenize_kwargs": {"stride": 2}}, "tokenize_kwargs has no option stride"),
        ({"tokenize_kwargs": {"truncation": True}, "truncation": True}, "truncation is given twice"),
    ],
)
def test_invalid_options(embed: FeatureExtractionPipeline, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        embed("fox", **options)


def test_normalize_overrides_the_repository(build: Build) -> None:
    with FeatureExtractionPipeline(build(sentence_transformers={"normalize": True})) as pipe:
        as_said, left_out = pipe.encode(SENTENCES), pipe.encode(SENTENCES, normalize=False)
        assert np.allclose(np.linalg.norm(as_said, axis=1), 1, atol=1e-6)
        assert not np.allclose(np.linalg.norm(left_out, axis=1), 1, atol=1e-2)
        assert np.allclose(pipe.encode(SENTENCES, normalize=True), as_said, atol=1e-6)


def test_an_unknown_prompt(build: Build) -> None:
    with FeatureExtractionPipeline(build(sentence_transformers={"prompts": {"query": "query: "}})) as pipe:
        with pytest.raises(UsageError, match="no prompt 'passage'") as caught:
            pipe.encode("fox", prompt_name="passage")
        assert caught.value.hint == "It has: query, document."


def test_many_threads_get_equal_answers(embed: FeatureExtractionPipeline) -> None:
    wanted = embed.encode(MIXED)
    answers: list[Any] = []

    def work() -> None:
        answers.extend(embed.encode(MIXED) for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 40
    assert all(np.array_equal(answer, wanted) for answer in answers)


@pytest.mark.parametrize("texts", ["a\udcff", ["fox", "a\udcff", "a much longer text, so that it is tokenized first"]])
def test_vectors_of_invalid_unicode(embed: FeatureExtractionPipeline, texts: str | list[str]) -> None:
    index = 0 if isinstance(texts, str) else 1
    for call in (embed, embed.encode):
        with pytest.raises(InputError, match=f"text {index} is not valid Unicode text"):
            call(texts)
