"""Requests that generate text, in a graph whose rows share a batch and in one whose requests take turns."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from gpux import pipeline
from gpux.errors import InputError, UnsupportedTaskError, UsageError
from gpux.server.workers.messages import (
    Answer,
    Answered,
    Count,
    Detokenize,
    Generate,
    Generated,
    Parsing,
    Piece,
    Tokenize,
)
from gpux.server.workers.worker import Worker
from tests.pipelines.writer import expected
from tests.server.running import TURNS, WRITER
from tests.server.workers.conftest import Shared, stored_model
from tests.waiting import until

CHAT = [{"role": "user", "content": "abc"}]


@pytest.fixture(scope="module", params=[WRITER, TURNS])
def writer(request: pytest.FixtureRequest, filled_home: Path) -> Iterator[Shared]:
    shared = Shared(stored_model(filled_home, request.param))
    yield shared
    shared.close()


async def pieces(worker: Worker, request: Generate) -> tuple[dict[int, list[Piece]], Generated]:
    """The pieces of each sequence, and the end of all."""
    found: dict[int, list[Piece]] = {}
    async with aclosing(worker.replies(request)) as replies:
        async for reply in replies:
            if isinstance(reply, Generated):
                return found, reply
            assert isinstance(reply, Piece)
            found.setdefault(reply.number, []).append(reply)
    raise AssertionError("no end")


def test_texts_at_the_same_time_are_those_of_single_requests(writer: Shared) -> None:
    prompts = [f"{letter}{place}" for place, letter in enumerate("abcdefghij")]
    replies = writer.ask(*(Generate(0, [one], {"max_new_tokens": 4 + n}) for n, one in enumerate(prompts)))
    for place, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        (one,) = reply.sequences
        assert one.text == expected(prompt, 4 + place)
        assert (one.tokens, one.finish_reason) == (4 + place, "length")
        assert reply.timing.prefill > 0


def test_a_request_may_have_several_inputs_and_copies(writer: Shared) -> None:
    request = Generate(0, ["abc", CHAT], {"max_new_tokens": 6, "num_return_sequences": 2, "do_sample": True, "seed": 1})
    found, end = writer.run(lambda worker: pieces(worker, request))
    assert len(end.sequences) == 4
    assert [one.prompt_tokens for one in end.sequences] == [end.sequences[0].prompt_tokens] * 2 + [
        end.sequences[2].prompt_tokens
    ] * 2
    assert {number: "".join(piece.text for piece in found[number]) for number in found} == {
        number: one.text for number, one in enumerate(end.sequences) if one.text
    }


def test_inputs_of_one_request_draw_what_they_draw_in_one_call(writer: Shared) -> None:
    options: dict[str, Any] = {"max_new_tokens": 12, "num_return_sequences": 2, "temperature": 3.0, "seed": 1}
    (reply,) = writer.ask(Generate(0, ["abc", "abc"], options))
    with pipeline("text-generation", writer.model, device="cpu") as pipe:
        texts = [one.text for written in pipe.generate(["abc", "abc"], **options) for one in written]
    assert [one.text for one in reply.sequences] == texts
    assert len(set(texts)) == 4


def test_pieces_carry_tokens_with_scores_and_names(writer: Shared) -> None:
    request = Generate(0, ["abc"], {"max_new_tokens": 5, "logprobs": 2}, echo_tokens=True)
    found, end = writer.run(lambda worker: pieces(worker, request))
    tokens = [token for piece in found[0] for token in piece.tokens]
    scores = [score for piece in found[0] for score in piece.scores]
    names = [name for piece in found[0] for name in piece.names]
    assert len(tokens) == len(scores) == end.sequences[0].tokens == 5
    assert [score[0] for score in scores] == tokens
    assert len(names) == sum(1 + len(top) for _, _, top in scores) == 15
    assert "".join(names[::3]) == end.sequences[0].text


@pytest.mark.parametrize("parsing", [None, Parsing()])
def test_an_answer_that_is_sent_whole_has_no_pieces(writer: Shared, parsing: Parsing | None) -> None:
    request = Generate(0, [CHAT], {"max_new_tokens": 6}, pieces=False, parsing=parsing)
    found, end = writer.run(lambda worker: pieces(worker, request))
    streamed, same = writer.run(lambda worker: pieces(worker, Generate(0, [CHAT], {"max_new_tokens": 6})))
    assert not found
    assert streamed
    assert end.sequences[0].text == same.sequences[0].text


def test_a_closed_stream_ends_its_row_only(writer: Shared) -> None:
    async def work(worker: Worker) -> tuple[Any, int]:
        other = asyncio.ensure_future(worker.ask(Generate(0, ["abc"], {"max_new_tokens": 30})))
        long = Generate(0, ["abd"], {"max_new_tokens": 60, "min_new_tokens": 60})
        async with aclosing(worker.replies(long)) as replies:
            async for _ in replies:
                break
        kept = await other
        await until(lambda: worker.load.running + worker.load.waiting == 0)
        return kept, worker.requests

    kept, left = writer.run(work)
    assert kept.sequences[0].text == expected("abc", 30)
    assert left == 0


def test_bad_requests_end_alone(writer: Shared) -> None:
    good, kind, name, number, unknown, vectors = writer.ask(
        Generate(0, ["abc"], {"max_new_tokens": 4}),
        Generate(0, [3], {}),
        Generate(0, ["abc"], {"max_new_token": 4}),
        Generate(0, ["abc"], {"temperature": -1.0}),
        Detokenize(0, [[100_000]]),
        Answer(0, ["abc"], {}, task="fill-mask"),
    )
    assert good.sequences[0].text == expected("abc", 4)
    assert isinstance(kind, InputError)
    assert isinstance(name, UsageError)
    assert isinstance(number, UsageError)
    assert number.details["param"] == "temperature"
    assert isinstance(unknown, InputError)
    assert isinstance(vectors, UnsupportedTaskError)


def test_calls_have_the_shape_of_the_pipeline(writer: Shared) -> None:
    with pipeline("text-generation", writer.model, device="cpu") as pipe:
        for inputs in ("abc", ["abc", "bcd"], CHAT):
            (reply,) = writer.ask(Answer(0, inputs, {"max_new_tokens": 5}, as_call=True))
            assert isinstance(reply, Answered), reply
            assert reply.answers == pipe(inputs, max_new_tokens=5)
            assert reply.tokens > 0


def test_tokens_are_counted_as_a_request_reads_them(writer: Shared) -> None:
    counted, generated, text = writer.ask(
        Count(0, [CHAT, "abc"]), Generate(0, [CHAT, "abc"], {"max_new_tokens": 1}), Tokenize(0, ["abc"])
    )
    assert counted.tokens == [one.prompt_tokens for one in generated.sequences]
    (back,) = writer.ask(Detokenize(0, text.ids))
    assert back.texts == ["abc"]
    assert [len(one) for one in (text.ids[0], text.pieces[0], text.offsets[0], text.special[0])] == [
        len(text.ids[0])
    ] * 4


def test_the_start_says_what_the_model_can_do(writer: Shared) -> None:
    info = writer.worker.info
    assert info.chat
    assert info.batches == writer.model.id.endswith("writer")
    assert info.context_length
    assert {"generate", "tokenize"} <= set(info.capabilities)
