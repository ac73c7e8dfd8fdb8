"""Texts in pieces, for ``for`` and ``async for``: order, back-pressure, leaving early, cancelling."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpux import CancelToken
from gpux.errors import ContextLengthError, UsageError
from gpux.pipelines.generation.text_generation import TextGenerationPipeline
from gpux.runtime.binding import Binding, Buffer
from tests.pipelines.writer import expected, writer


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[TextGenerationPipeline]:
    with TextGenerationPipeline(writer(tmp_path), device="cpu", eos_token_id=[]) as made:
        yield made


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each run of the graph."""
    counted: list[int] = []
    run = Binding.run

    def counting(self: Binding) -> None:
        counted.append(1)
        run(self)

    monkeypatch.setattr(Binding, "run", counting)
    return counted


@pytest.fixture
def buffers(monkeypatch: pytest.MonkeyPatch) -> weakref.WeakSet[Buffer]:
    """The caches' memory that is still held."""
    held: weakref.WeakSet[Buffer] = weakref.WeakSet()
    made = Buffer.__init__

    def noting(self: Buffer, nbytes: int, device: str = "cpu") -> None:
        made(self, nbytes, device)
        held.add(self)

    monkeypatch.setattr(Buffer, "__init__", noting)
    return held


def test_the_pieces_are_the_text(pipe: TextGenerationPipeline) -> None:
    stream = pipe.stream("a cat", max_new_tokens=12)
    pieces = list(stream)
    whole = pipe.generate(["a cat"], max_new_tokens=12, reuse_prefix=False)[0][0]
    assert all(pieces)
    assert "".join(pieces) == stream.result.text == whole.text
    assert (stream.result.tokens, stream.result.finish_reason) == (whole.tokens, "length")
    assert stream.result.prompt_tokens == 5
    assert stream.result.timings.steps == 11 and stream.result.timings.prefill > 0
    assert list(stream) == []  # an ended stream stays ended
    assert pipe("a cat", stream=True, max_new_tokens=12).__next__() == pieces[0]


def test_no_result_before_the_end(pipe: TextGenerationPipeline) -> None:
    stream = pipe.stream("a cat", max_new_tokens=12)
    next(stream)
    with pytest.raises(UsageError, match="not ended"):
        _ = stream.result
    stream.close()


def test_a_token_is_computed_on_request(pipe: TextGenerationPipeline, runs: list[int]) -> None:
    stream = pipe.stream("a cat", max_new_tokens=12)
    assert runs == []
    for count in range(1, 4):
        next(stream)
        assert len(runs) == count
    stream.close()
    assert len(runs) == 3


def test_closing_a_stream_frees_the_memory(pipe: TextGenerationPipeline, buffers: weakref.WeakSet[Buffer]) -> None:
    for piece in pipe.stream("a cat", max_new_tokens=12):
        assert piece and len(buffers) > 0
        break
    gc.collect()
    assert len(buffers) == 0
    with pipe.stream("a cat", max_new_tokens=12) as stream:
        next(stream)
    assert len(buffers) == 0


def test_the_reader_cancels(pipe: TextGenerationPipeline) -> None:
    stream = pipe.stream("a cat", max_new_tokens=12)
    first = next(stream)
    stream.cancel()
    assert first + "".join(stream) == stream.result.text
    assert (stream.result.finish_reason, len(stream.result.tokens)) == ("cancelled", 1)


def test_token_of_the_caller_cancels_and_is_not_changed(pipe: TextGenerationPipeline) -> None:
    token = CancelToken()
    stream = pipe.stream("a cat", max_new_tokens=12, cancel=token)
    next(stream)
    stream.cancel()
    list(stream)
    assert not token.cancelled
    token.cancel()
    assert list(pipe.stream("a cat", cancel=token)) == []


def test_errors_are_raised_before_the_first_piece(pipe: TextGenerationPipeline) -> None:
    with pytest.raises(ContextLengthError):
        pipe.stream("a" * 70)
    with pytest.raises(UsageError, match="one text"):
        pipe.stream("a cat", num_return_sequences=2, do_sample=True)


def test_async(pipe: TextGenerationPipeline) -> None:
    async def read() -> tuple[list[str], str]:
        stream = pipe.astream("a cat", max_new_tokens=7)
        return [piece async for piece in stream], stream.result.finish_reason

    pieces, reason = asyncio.run(read())
    assert "".join(pieces) == expected("a cat", 7) and reason == "length"


def test_event_loop_is_not_blocked(pipe: TextGenerationPipeline) -> None:
    async def both() -> list[str]:
        async def read(prompt: str) -> str:
            async with pipe.astream(prompt, max_new_tokens=9) as stream:
                return "".join([piece async for piece in stream])

        return await asyncio.gather(read("a cat"), read("the dog"))

    assert asyncio.run(both()) == [expected("a cat", 9), expected("the dog", 9)]


def test_a_cancelled_task_frees_the_memory(pipe: TextGenerationPipeline, buffers: weakref.WeakSet[Buffer]) -> None:
    async def read(begun: asyncio.Event) -> None:
        async for _ in pipe.astream("a cat", max_new_tokens=40):
            begun.set()

    async def cancelled() -> None:
        begun = asyncio.Event()
        task = asyncio.create_task(read(begun))
        await begun.wait()
        assert len(buffers) > 0
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    gc.collect()
    assert len(buffers) == 0


def test_dropped_stream_keeps_no_cache(pipe: TextGenerationPipeline, buffers: weakref.WeakSet[Buffer]) -> None:
    """One that is only cancelled leaves its cache for the next turn."""
    dropped, cancelled = pipe.stream("a cat", max_new_tokens=40), pipe.stream("a cat", max_new_tokens=40)
    next(dropped)
    dropped.drop()
    assert list(dropped) == [] and len(buffers) == 0
    next(cancelled)
    cancelled.cancel()
    assert list(cancelled) == [] and len(buffers) > 0
