"""Many requests at once: each answer as the same request alone, in a shared batch and in turns."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from gpux import CancelToken
from gpux.errors import (
    CacheMemoryError,
    ContextLengthError,
    GpuxError,
    InputError,
    RunError,
    SessionError,
    UsageError,
)
from gpux.pipelines.generation.concurrent import ConcurrentGenerator
from gpux.pipelines.generation.text_generation import TextGenerationPipeline
from gpux.pipelines.generation.writing import Piece
from gpux.runtime.generation.results import Generation
from tests.pipelines.writer import CALL_SPECS, CHARACTERS, NAMES, writer
from tests.runtime.generation.tiny_graphs import Kind
from tests.waiting import FOREVER, wait_until

PROMPTS = ["a cat", "the quick brown fox jumps", "b", "hello world, hello", "xyz", "a cat sat"]


@pytest.fixture(params=["growing", "shared"])
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
def pipe(tmp_path: Path, kind: Kind) -> Iterator[TextGenerationPipeline]:
    with TextGenerationPipeline(writer(tmp_path, kind), device="cpu", eos_token_id=[]) as made:
        yield made


@pytest.fixture
def generator(pipe: TextGenerationPipeline) -> Iterator[ConcurrentGenerator]:
    with pipe.concurrent(max_rows=4) as made:
        yield made


def facts(answers: tuple[Generation, ...]) -> list[Any]:
    return [(one.text, one.tokens, one.finish_reason, one.stopped_by) for one in answers]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_sample": True, "seed": 5, "num_return_sequences": 3},
        {"repetition_penalty": 1.3, "frequency_penalty": 0.5, "logprobs": 2},
        {"stop": ["a", "o"]},
        {"num_beams": 2},
        {"prompt_lookup_tokens": 3},
    ],
    ids=str,
)
def test_every_answer_is_that_of_the_request_alone(
    pipe: TextGenerationPipeline, generator: ConcurrentGenerator, kind: Kind, options: dict[str, Any]
) -> None:
    alone = [pipe.generate([one], max_new_tokens=15, reuse_prefix=False, **options)[0] for one in PROMPTS]
    together = [submit(generator, one, max_new_tokens=15, **options) for one in PROMPTS]
    assert [facts(one.wait()) for one in together] == [facts(answers) for answers in alone]
    assert generator.batches is (kind == "shared")


class Replies:
    """What the callbacks of one request are called with."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.ended = threading.Event()
        self.result: Any = None

    def done(self, result: tuple[Generation, ...] | GpuxError) -> None:
        assert not self.ended.is_set()
        self.result = result
        self.ended.set()

    def wait(self) -> Any:
        assert self.ended.wait(FOREVER)
        return self.result


def submit(to: ConcurrentGenerator, item: Any, **options: Any) -> Replies:
    replies = Replies()
    to.submit(item, on_piece=replies.pieces.append, on_done=replies.done, **options)
    return replies


def test_pieces_have_the_text_tokens_and_scores_of_each_sequence(generator: ConcurrentGenerator) -> None:
    options = {"seed": 4, "num_return_sequences": 3, "logprobs": 1, "stop": ["e "], "max_new_tokens": 25}
    replies = submit(generator, "a cat", **options)
    for number, one in enumerate(replies.wait()):
        own = [piece for piece in replies.pieces if piece.number == number]
        assert "".join(piece.text for piece in own) == one.text
        assert tuple(token for piece in own for token in piece.tokens) == one.tokens
        assert tuple(score for piece in own for score in piece.scores) == one.scores
    assert {piece.number for piece in replies.pieces} == {0, 1, 2}


def test_inputs_of_one_call_draw_what_they_draw_in_one_batch(
    pipe: TextGenerationPipeline, generator: ConcurrentGenerator
) -> None:
    options = {"seed": 4, "num_return_sequences": 2, "max_new_tokens": 12, "temperature": 3.0}
    inputs = ["a cat", "a cat", "b"]
    found = generator.generate(inputs, **options)
    assert [facts(one) for one in found] == [facts(one) for one in pipe.generate(inputs, **options)]
    assert found[0][0].text != found[1][0].text


def test_sequences_of_a_graph_of_one_row_have_their_numbers(tmp_path: Path) -> None:
    call_spec = replace(CALL_SPECS["growing"], position_inputs=False)
    model = writer(tmp_path, "growing", call_spec=call_spec, status="unproven")
    with TextGenerationPipeline(model, device="cpu", eos_token_id=[]) as pipe, pipe.concurrent() as generator:
        replies = submit(generator, "a cat", seed=4, num_return_sequences=3, max_new_tokens=6)
        texts = [one.text for one in replies.wait()]
    joined = ["".join(piece.text for piece in replies.pieces if piece.number == number) for number in range(3)]
    assert joined == texts


def test_threads_submit_at_the_same_time(pipe: TextGenerationPipeline, generator: ConcurrentGenerator) -> None:
    alone = {one: pipe.generate([one], max_new_tokens=10)[0][0].text for one in PROMPTS}
    with ThreadPoolExecutor(6) as threads:
        texts = list(threads.map(lambda one: "".join(generator.stream(one, max_new_tokens=10)), PROMPTS * 4))
    assert texts == [alone[one] for one in PROMPTS] * 4
    found = generator.stats
    assert (found.running, found.waiting, found.rows) == (0, 0, 0)
    assert found.steps >= 9
    assert sum(found.batch_sizes.values()) == found.steps
    assert generator.stats.batch_sizes == {}


def test_an_invalid_request_ends_with_its_error(generator: ConcurrentGenerator) -> None:
    fine = submit(generator, "a cat", max_new_tokens=4)
    errors = [
        submit(generator, "a cat", max_new_tokens=0).wait(),
        submit(generator, "a" * 70).wait(),
        submit(generator, 5).wait(),
        submit(generator, "a cat", unknown=5).wait(),
    ]
    assert [type(error) for error in errors] == [UsageError, ContextLengthError, InputError, UsageError]
    assert len(fine.wait()[0].tokens) == 4
    with pytest.raises(ContextLengthError):
        generator.generate(["a cat", "a" * 70], max_new_tokens=4)
    with pytest.raises(UsageError, match="num_return_sequences"):
        generator.stream("a cat", num_return_sequences=2, seed=1)


def test_a_callback_that_raises_ends_its_own_request(generator: ConcurrentGenerator) -> None:
    def fault(piece: Piece) -> None:
        raise ValueError("a fault")

    replies = Replies()
    generator.submit("a cat", on_piece=fault, on_done=replies.done, max_new_tokens=10)
    other = submit(generator, "xyz", max_new_tokens=10)
    assert isinstance(replies.wait(), RunError)
    assert len(other.wait()[0].tokens) == 10


def test_cancelled_requests_end_with_their_text_so_far(generator: ConcurrentGenerator) -> None:
    token, other = CancelToken(), CancelToken()
    replies = Replies()

    def cancelling(piece: Piece) -> None:
        replies.pieces.append(piece)
        if len(replies.pieces) == 3:
            token.cancel()
            other.cancel()

    generator.submit("a cat", on_piece=cancelling, on_done=replies.done, cancel=token, max_new_tokens=40)
    waiting = [submit(generator, "b", cancel=other, num_beams=2, max_new_tokens=40) for _ in range(2)]
    (found,) = replies.wait()
    assert found.finish_reason == "cancelled"
    assert 3 <= len(found.tokens) <= 5
    assert found.text == "".join(piece.text for piece in replies.pieces)
    assert all(isinstance(one.wait(), tuple) for one in waiting)


def test_closing_ends_what_waits_and_what_runs(pipe: TextGenerationPipeline) -> None:
    generator = pipe.concurrent(max_rows=1)
    every = [submit(generator, one, max_new_tokens=40, **more) for one in PROMPTS for more in ({}, {"num_beams": 2})]
    generator.close()
    assert all(replies.ended.is_set() for replies in every)
    assert all(isinstance(replies.result, tuple) for replies in every)
    assert every[-1].result[0].finish_reason == "cancelled"
    generator.close()
    with pytest.raises(SessionError, match="closed"):
        submit(generator, "a cat")


def test_a_generator_that_is_forgotten_ends_its_threads(pipe: TextGenerationPipeline) -> None:
    generator = pipe.concurrent()
    generator.generate(["a cat"], max_new_tokens=3)
    generator.generate(["a cat"], max_new_tokens=3, num_beams=2)
    loops = generator._finalizer.peek()[2][0]  # type: ignore[index]
    threads = [loop._thread for loop in loops if loop._thread is not None]
    assert len(threads) == 2 + generator.batches
    del generator
    wait_until(lambda: not any(thread.is_alive() for thread in threads))


def test_a_generator_is_closed_by_a_callback(pipe: TextGenerationPipeline) -> None:
    generator = pipe.concurrent()
    every = [Replies() for _ in range(3)]

    def closing(result: tuple[Generation, ...] | GpuxError) -> None:
        generator.close()
        every[0].done(result)

    generator.submit("a cat", on_piece=every[0].pieces.append, on_done=closing, max_new_tokens=3)
    for replies in every[1:]:
        with suppress(SessionError):
            generator.submit("b", on_piece=replies.pieces.append, on_done=replies.done, max_new_tokens=50)
            replies.wait()
    every[0].wait()


def test_closing_a_stream_ends_its_request(generator: ConcurrentGenerator) -> None:
    with generator.stream("a cat", max_new_tokens=50):
        pass  # nothing was read
    with generator.stream("a cat", max_new_tokens=50) as stream:
        next(stream)
    wait_until(lambda: generator.stats.running + generator.stats.waiting == 0)
    assert len(generator.generate(["b"], max_new_tokens=3)[0][0].tokens) == 3


def test_two_chats_keep_their_caches(tmp_path: Path) -> None:
    with (
        TextGenerationPipeline(writer(tmp_path), device="cpu", eos_token_id=[]) as pipe,
        pipe.concurrent() as generator,
    ):
        chats = [[{"role": "user", "content": text * 6}] for text in ("ab", "cde")]
        for turn in range(3):
            for chat in chats:
                (found,) = generator.generate([chat], max_new_tokens=4)[0]
                assert (found.timings.reused_tokens >= 16) is (turn > 0)
                chat += [{"role": "assistant", "content": found.text}, {"role": "user", "content": "x"}]
        assert generator.generate([chats[0]], max_new_tokens=4, reuse_prefix=False)[0][0].timings.reused_tokens == 0
        assert generator.stats.prefix_bytes > 0
    with (
        TextGenerationPipeline(writer(tmp_path / "other"), device="cpu") as pipe,
        pipe.concurrent(prefix_bytes=0) as made,
    ):
        made.generate(["a cat"])
        assert made.stats.prefix_bytes == 0


def test_formats_are_of_each_request(tmp_path: Path, kind: Kind) -> None:
    pytest.importorskip("llguidance")
    model = writer(tmp_path, kind)
    entries = {name.replace(" ", "Ġ"): number for number, name in enumerate([*NAMES, *CHARACTERS])}
    coder = tokenizers.Tokenizer(tokenizers.models.BPE(entries, []))  # bytes, as llguidance needs them
    coder.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    coder.decoder = tokenizers.decoders.ByteLevel()
    coder.add_special_tokens(NAMES)
    coder.save(str(tmp_path / "tokenizer.json"))
    patterns = ["[a-c]{9}", "[0-9]{7}", "x{5}"]
    formats = [{"type": "regex", "pattern": pattern} for pattern in patterns]
    with TextGenerationPipeline(model, device="cpu") as pipe, pipe.concurrent() as generator:
        every = [submit(generator, "a cat", max_new_tokens=20, response_format=one) for one in formats]
        free = submit(generator, "a cat", max_new_tokens=20)
        wrong = submit(generator, "a cat", response_format={"type": "regex", "pattern": "("})
        for pattern, replies in zip(patterns, every, strict=True):
            assert re.fullmatch(pattern, replies.wait()[0].text)
        assert free.wait()[0].text == pipe.generate(["a cat"], max_new_tokens=20, reuse_prefix=False)[0][0].text
        assert isinstance(wrong.wait(), UsageError)


@pytest.mark.parametrize("sizes", [{"max_rows": 0}, {"cache_bytes": -1}, {"prefix_bytes": -1}], ids=str)
def test_sizes_are_checked(pipe: TextGenerationPipeline, sizes: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=next(iter(sizes))):
        pipe.concurrent(**sizes)


def test_a_request_beyond_the_cache_is_refused(tmp_path: Path) -> None:
    with (
        TextGenerationPipeline(writer(tmp_path), device="cpu", eos_token_id=[]) as pipe,
        pipe.concurrent(cache_bytes=30 * 128) as generator,
    ):
        error = submit(generator, "a cat", max_new_tokens=26).wait()
        assert isinstance(error, CacheMemoryError)
        assert error.hint is not None and "max_new_tokens" in error.hint
        assert len(submit(generator, "a cat", max_new_tokens=25).wait()[0].tokens) == 25
