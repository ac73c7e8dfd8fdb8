"""Requests that share batches are answered as single calls of the pipeline are."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpux.errors import InputError, UnsupportedTaskError, UsageError
from gpux.server.workers.messages import Answer, Answered, Embed, Embedded, Load, Rank, Ranked
from gpux.server.workers.worker import Worker
from tests.server.workers.conftest import Shared, started
from tests.waiting import until

WORDS = ["fox", "a fox", "the quick brown fox jumps", "good", "a very very very very good dog", "bad", "quick " * 40]


def text(place: int) -> str:
    return WORDS[place % len(WORDS)] + " dog" * (place % 5)


def vectors(reply: Embedded) -> Any:
    return np.frombuffer(reply.vectors.data, "<f4").reshape(reply.vectors.shape)


def test_vectors_of_mixed_requests_are_those_of_single_calls(embedder: Shared, embed: Any) -> None:
    options: list[dict[str, Any]] = [{}, {"normalize": True}, {"truncate_dim": 4}, {"max_length": 6}]
    requests = [
        Embed(0, [text(place + more) for more in range(1 + place % 4)], options[place % 4]) for place in range(48)
    ]
    replies = embedder.ask(*requests)
    for request, reply in zip(requests, replies, strict=True):
        assert np.allclose(vectors(reply), embed.encode(request.texts, **request.options), atol=1e-5)
        limit = request.options.get("max_length")
        assert reply.tokens == sum(min(len(embed.tokenizer.ids(one)), limit or 64) for one in request.texts)
    assert max(reply.timing.batch for reply in replies) > 1
    assert all(reply.timing.run > 0 and reply.timing.queue >= 0 for reply in replies)


def test_requests_with_different_options_share_a_batch(classifier: Shared, classify: Any) -> None:
    options: list[dict[str, Any]] = [{}, {"top_k": None}, {"top_k": 1}, {"function_to_apply": "sigmoid"}]
    requests = [Answer(0, [text(place)], options[place % 4]) for place in range(40)]
    replies = classifier.ask(*requests)
    for request, reply in zip(requests, replies, strict=True):
        (expected,) = classify.answers(request.inputs, request.options)
        (found,) = reply.answers
        for one, other in zip(*([x] if isinstance(x, dict) else x for x in (found, expected)), strict=True):
            assert one["label"] == other["label"]
            assert one["score"] == pytest.approx(other["score"], abs=1e-5)
    assert max(reply.timing.batch for reply in replies) > 1


@pytest.mark.parametrize(
    "inputs", ["good dog", ["good dog"], ["good", "bad dog"], {"text": "good", "text_pair": "bad"}]
)
@pytest.mark.parametrize("options", [{}, {"top_k": 2}])
def test_an_answer_may_have_the_shape_of_a_call(
    classifier: Shared, classify: Any, inputs: Any, options: dict[str, Any]
) -> None:
    (reply,) = classifier.ask(Answer(0, inputs, options, as_call=True))
    expected = classify(inputs, **options)
    assert _rounded(reply.answers) == _rounded(expected)


def test_arrays_of_a_call_are_lists(embedder: Shared, embed: Any) -> None:
    (reply,) = embedder.ask(Answer(0, "a fox", {"return_arrays": True}, as_call=True))
    assert np.allclose(reply.answers, embed("a fox"), atol=1e-5)


def test_an_error_ends_only_its_own_request(embedder: Shared, classifier: Shared) -> None:
    first, second, third = embedder.ask(
        Embed(0, ["a fox"], {}), Embed(0, ["fox", "fox " * 80], {"truncation": False}), Embed(0, ["a dog"], {})
    )
    assert isinstance(first, Embedded)
    assert isinstance(third, Embedded)
    assert isinstance(second, InputError)
    assert second.details["index"] == 1
    good, number, name, kind = classifier.ask(
        Answer(0, ["good"], {}),
        Answer(0, ["good", 3], {}),
        Answer(0, ["good"], {"topk": 1}),
        Answer(0, ["good"], {"top_k": "all"}),
    )
    assert isinstance(good, Answered)
    assert isinstance(number, InputError)
    assert number.details["index"] == 1
    assert isinstance(name, UsageError)
    assert "top_k" in str(name.hint)
    assert isinstance(kind, UsageError)
    assert kind.details["param"] == "top_k"


def test_dimensions_that_the_vectors_do_not_have_are_refused(embedder: Shared, embed: Any) -> None:
    size = embed.dimension
    assert embedder.worker.info.outputs["dimensions"] == size
    found, refused = embedder.ask(
        Embed(0, ["fox"], {"truncate_dim": size}), Embed(0, ["fox"], {"truncate_dim": size + 1})
    )
    assert vectors(found).shape == (1, size)
    assert isinstance(refused, UsageError)
    assert refused.details["param"] == "dimensions"


def test_texts_are_ranked_by_their_vectors(embedder: Shared, embed: Any) -> None:
    texts = ["a fox", "good dog", "bad"]
    (reply, empty) = embedder.ask(Rank(0, "quick fox", texts, {}), Rank(0, "fox", [], {}))
    assert isinstance(reply, Ranked)
    expected = embed.similarity(embed.encode_query("quick fox"), embed.encode_document(texts))[0]
    assert np.allclose(reply.scores, expected, atol=1e-5)
    assert reply.tokens == sum(len(embed.tokenizer.ids(one)) for one in ["quick fox", *texts])
    assert empty.scores == []


def test_what_a_model_cannot_do_is_refused(classifier: Shared) -> None:
    vectors, ranks = classifier.ask(Embed(0, ["fox"], {}), Rank(0, "fox", ["dog"], {}))
    assert isinstance(vectors, UnsupportedTaskError)
    assert isinstance(ranks, UnsupportedTaskError)


def test_a_small_request_passes_a_large_one(embedder: Shared) -> None:
    async def work(worker: Worker) -> tuple[bool, Any]:
        large = asyncio.ensure_future(worker.ask(Embed(0, [text(place) for place in range(20_000)], {})))
        await until(lambda: worker.load.running > 0)
        await worker.ask(Embed(0, ["a fox"], {}))
        first = not large.done()
        large.cancel()
        return first, await asyncio.gather(large, return_exceptions=True)

    passed, _ = embedder.run(work)
    assert passed


def test_a_cancelled_request_leaves_the_queue(embedder: Shared) -> None:
    async def work(worker: Worker) -> None:
        asked = [asyncio.ensure_future(worker.ask(Embed(0, [text(n) for n in range(5_000)], {}))) for _ in range(4)]
        await until(lambda: worker.load.running > 0)
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await until(lambda: worker.requests == 0)
        await until(lambda: (worker.load.running, worker.load.waiting) == (0, 0))

    embedder.run(work)
    (reply,) = embedder.ask(Embed(0, ["a fox"], {}))
    assert isinstance(reply, Embedded)


def test_the_load_counts_batches(classifier: Shared) -> None:
    loads: list[Load] = []

    async def work(worker: Worker) -> None:
        await until(lambda: worker.load.running == 0)
        before = worker.load
        await asyncio.gather(*(worker.ask(Answer(0, [text(place)], {})) for place in range(16)))
        await until(lambda: worker.load is not before and worker.load.running == 0)
        loads.append(worker.load)

    classifier.run(work)
    assert loads


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value


def test_a_model_whose_files_are_removed_still_answers_much_input(embedder: Shared, embed: Any, tmp_path: Path) -> None:
    """Much input is worth a second session, which cannot be opened then."""
    folder = tmp_path / "model"
    shutil.copytree(embedder.model.path, folder)
    texts = ["quick brown fox " * 30] * 600

    async def scenario() -> Embedded:
        async with started(replace(embedder.model, path=folder)) as worker:
            shutil.rmtree(folder)
            found: Embedded = await worker.ask(Embed(0, texts, {}))
            assert (await worker.ask(Embed(0, texts[:1], {}))).vectors.shape == (1, found.vectors.shape[1])
            return found

    assert np.allclose(vectors(asyncio.run(scenario())), embed.encode(texts), atol=1e-5)
