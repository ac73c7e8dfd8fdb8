"""What bounds the engine, on tiny graphs: memory, the context, rows, and graphs that it refuses."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from gpux.errors import CacheMemoryError, ContextLengthError, InputError, UnsupportedError
from gpux.runtime.generation.engine import cache, calls
from gpux.runtime.generation.engine.decoder import Decoder, DecoderState
from gpux.runtime.generation.loops import stepwise
from gpux.runtime.generation.loops.request import DecodeRequest
from gpux.runtime.generation.options import GenerationOptions
from gpux.runtime.session import Session
from tests.runtime.generation import tiny_graphs
from tests.runtime.generation.tiny_decoders import CALL_SPECS, PROMPTS, ROOM, Opened, expected, written
from tests.runtime.generation.tiny_graphs import Kind, greedy


def test_memory_is_flat_from_token_to_token(made: Opened) -> None:
    state = made().open(20)
    tokens = state.start(PROMPTS).argmax(axis=1)
    before, nbytes = places(state), state.nbytes
    for _ in range(19):
        tokens = state.step(tokens).argmax(axis=1)
        assert places(state) == before
    assert state.nbytes == nbytes
    state.close()
    assert state.nbytes == 0


def test_a_row_ends_where_the_model_does(made: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that is shorter goes on to the end of its own context, and its padding does not count."""
    widths = []
    original = calls.Caller.step

    def step(self: Any, tokens: Any, mask: Any, positions: Any) -> Any:
        widths.append(mask if isinstance(mask, int) else mask.shape[1])
        return original(self, tokens, mask, positions)

    monkeypatch.setattr(calls.Caller, "step", step)
    model = made(limit=10)
    assert model.limit == 10
    found = written(model, [PROMPTS[2], PROMPTS[3]], max_new_tokens=50)
    assert found == [greedy(PROMPTS[2], 3), greedy(PROMPTS[3], 7)]
    assert max(widths) <= 10


def test_beyond_the_context(made: Opened) -> None:
    model = made(limit=10)
    with pytest.raises(ContextLengthError) as caught:
        model.open(5).start([list(range(11))])
    assert (caught.value.details["tokens"], caught.value.details["limit"]) == (11, 10)
    state = model.open(5)
    state.start([list(range(9))])
    state.step(np.array([1]))
    with pytest.raises(ContextLengthError):
        state.step(np.array([1]))
    with pytest.raises(ContextLengthError):
        written(model, [list(range(10))])


def test_too_little_memory_raises_before_the_start(made: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made()
    needed = 3 * (ROOM + len(PROMPTS[2])) * model.bytes_per_token()
    monkeypatch.setattr(cache, "available_memory", lambda: needed - 1)
    monkeypatch.setattr(cache, "SMALL", 0)
    with pytest.raises(CacheMemoryError) as caught:
        model.open(ROOM).start(PROMPTS[:3])
    assert (caught.value.details["needed"], caught.value.details["available"]) == (needed, needed - 1)
    monkeypatch.setattr(cache, "available_memory", lambda: needed)
    monkeypatch.setattr(cache, "SMALL", 0)
    state = model.open(ROOM)
    state.start(PROMPTS[:3])
    assert state.nbytes == needed
    with pytest.raises(CacheMemoryError):
        state.keep([0, 1, 2, 0])
    state.close()


def test_a_closed_state_frees_its_memory(made: Opened) -> None:
    state = made().open(ROOM)
    state.step(state.start(PROMPTS).argmax(axis=1))
    held = [weakref.ref(buffer) for buffer in buffers(state)]
    state.close()
    state.close()
    gc.collect()
    assert held
    assert not any(buffer() for buffer in held)
    with pytest.raises(InputError, match="closed"):
        state.step(np.array([1, 2, 3, 4]))


def test_closed_generator_frees_its_memory(made: Opened) -> None:
    model = made()
    state = model.open(ROOM)
    writing = stepwise.generate(state, DecodeRequest(PROMPTS, GenerationOptions(max_new_tokens=ROOM)))
    next(iter(writing))
    held = [weakref.ref(buffer) for buffer in buffers(state)]
    del writing
    state.close()
    gc.collect()
    assert not any(buffer() for buffer in held)


def test_row_limit_of_a_graph(made: Opened) -> None:
    model = made(most_rows=1)
    with pytest.raises(UnsupportedError, match=r"1 row\(s\) at a time, and 4"):
        model.open(ROOM).start(PROMPTS)
    state = model.open(ROOM)
    state.start(PROMPTS[:1])
    with pytest.raises(UnsupportedError):
        state.keep([0, 0])
    state.close()


def fixed(file: Path, kind: Kind, rows: int | None, tokens: int | None) -> Path:
    """Declare sizes in place of the names of axes."""
    model = onnx.load(tiny_graphs.write(file, kind))
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if rows is not None:
            dims[0].dim_value = rows
        if tokens is not None and value.name in ("input_ids", "position_ids"):
            dims[1].dim_value = tokens
    onnx.save(model, file)
    return file


def test_a_graph_with_a_batch_of_one_generates_row_by_row(tmp_path: Path, kind: Kind) -> None:
    with Session(fixed(tmp_path / "model.onnx", kind, 1, None), device="cpu") as session:
        model = Decoder(session, CALL_SPECS[kind])
        assert model.most_rows == 1
        assert [written(model, [prompt])[0] for prompt in PROMPTS] == expected(PROMPTS)


@pytest.mark.parametrize(
    ("rows", "tokens", "message"),
    [(4, None, "exactly 4 rows in each call"), (1, 16, r"exactly 16 token\(s\) in each call \(input_ids\)")],
)
def test_graphs_of_other_fixed_shapes_are_rejected(
    tmp_path: Path, kind: Kind, rows: int | None, tokens: int | None, message: str
) -> None:
    with (
        Session(fixed(tmp_path / "model.onnx", kind, rows, tokens), device="cpu") as session,
        pytest.raises(UnsupportedError, match=message) as caught,
    ):
        Decoder(session, CALL_SPECS[kind])
    assert caught.value.hint is not None and "gpux convert" in caught.value.hint


@pytest.mark.parametrize("prompts", [[], [[]], [[1], []]], ids=str)
def test_empty_prompts_are_rejected(made: Opened, prompts: list[list[int]]) -> None:
    with pytest.raises(InputError, match="no tokens"):
        made().open(ROOM).start(prompts)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (tiny_graphs.write_without_cache, "has no key-value cache"),
        (tiny_graphs.write_recurrent, "0 dynamic axes"),
        (tiny_graphs.write_with_types, "has the inputs token_type_ids"),
    ],
)
def test_unsupported_graphs_are_rejected(tmp_path: Path, write: Callable[[Path], Path], message: str) -> None:
    with (
        Session(write(tmp_path / "model.onnx"), device="cpu") as session,
        pytest.raises(UnsupportedError, match=message),
    ):
        Decoder(session, CALL_SPECS["growing"])


def buffers(state: DecoderState) -> list[Any]:
    """Every buffer of the cache."""
    opened: Any = state._cache
    return [*opened._buffers] if isinstance(opened, cache.SharedCache) else [*opened._past, *opened._present]


def places(state: DecoderState) -> set[int]:
    return {buffer.pointer for buffer in buffers(state)}
