"""The engine's rows on tiny graphs, with a growing and with a shared cache, against the same model in numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpux.model.variant import CallSpec
from gpux.runtime.binding import Binding
from gpux.runtime.generation.engine import calls
from gpux.runtime.generation.engine.cache import CacheTensor, SharedCache
from gpux.runtime.generation.engine.decoder import Decoder
from gpux.runtime.generation.loops import lookup, stepwise
from gpux.runtime.generation.loops.request import DecodeRequest
from gpux.runtime.generation.options import GenerationOptions
from gpux.runtime.session import Session
from tests.runtime.generation import tiny_graphs
from tests.runtime.generation.tiny_decoders import CALL_SPECS, PROMPTS, ROOM, Opened, expected, written
from tests.runtime.generation.tiny_graphs import VOCABULARY, Kind, greedy, scores


def test_a_row_alone(made: Opened) -> None:
    model = made()
    assert [written(model, [prompt])[0] for prompt in PROMPTS] == expected(PROMPTS)


def test_ragged_rows_are_as_each_alone(made: Opened) -> None:
    assert written(made(), PROMPTS) == expected(PROMPTS)


def test_the_scores_are_the_models(made: Opened) -> None:
    state = made().open(ROOM)
    found = state.start(PROMPTS)
    np.testing.assert_allclose(found, [scores(prompt)[-1] for prompt in PROMPTS], atol=1e-4)
    found = state.step(np.array([1, 2, 3, 4]))
    wanted = [scores([*prompt, token])[-1] for prompt, token in zip(PROMPTS, [1, 2, 3, 4], strict=True)]
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert state.lengths.tolist() == [6, 2, 8, 4]


@pytest.mark.parametrize("prompts", [PROMPTS, PROMPTS[2:3]], ids=["ragged", "alone"])
def test_prompts_in_pieces(made: Opened, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    original = calls.Caller.call

    def call(self: Any, ids: Any, *others: Any) -> Any:
        shapes.append(ids.shape)
        return original(self, ids, *others)

    monkeypatch.setattr(calls.Caller, "call", call)
    monkeypatch.setattr(calls, "CHUNK", 3)
    assert written(made(), prompts) == expected(prompts)
    assert max(width for _, width in shapes) <= 3
    assert len(shapes) > 1


def test_graph_that_reads_one_token_after_a_cache(made: Opened, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "CHUNK", 3)
    model = made()
    model.call_spec = CallSpec(position_inputs=True, chunks_after_cache=False, chunk_rows=CALL_SPECS[kind].chunk_rows)
    assert [written(model, [prompt])[0] for prompt in PROMPTS] == expected(PROMPTS)


def test_rows_leave_when_they_end(made: Opened) -> None:
    wanted = expected(PROMPTS)
    ends = sorted({wanted[1][3], wanted[2][2], wanted[3][2]} - set(wanted[0]))
    cut = [tokens[: next((at for at, token in enumerate(tokens) if token in ends), ROOM) + 1] for tokens in wanted]
    assert len({len(tokens) for tokens in cut}) > 2
    assert written(made(), PROMPTS, eos_token_ids=tuple(ends)) == cut


def test_rows_leave_a_graph_without_position_inputs(tmp_path: Path) -> None:
    """Keys that are turned by their place in the cache, padding counted in, have to stay where they are."""
    file = tiny_graphs.write(tmp_path / "model.onnx", "rotary")
    wanted = [greedy(prompt, 20, rotary=True) for prompt in PROMPTS]
    with Session(file, device="cpu") as session:
        model = Decoder(session, CallSpec(padding_side="left", chunks_after_cache=True))
        assert written(model, PROMPTS, max_new_tokens=20) == wanted
        for left in ([0, 1, 3], [1, 3], [0], [1]):
            state = model.open(20)
            found = state.start(PROMPTS)
            state.step(found.argmax(axis=1))
            state.keep(left)
            after = [[*PROMPTS[row], *wanted[row][:1], 7] for row in left]
            found = state.step(np.full(len(left), 7))
            np.testing.assert_allclose(found, [scores(ids, rotary=True)[-1] for ids in after], atol=1e-4)
            state.close()


@pytest.mark.parametrize("kept", [[0], [1], [2], [3], [1, 3], [3, 0], [2, 2, 1, 0, 0, 3, 1]], ids=str)
def test_rows_are_kept_in_any_order(made: Opened, kept: list[int]) -> None:
    state = made().open(ROOM)
    sequences = [list(prompt) for prompt in PROMPTS]
    found = state.start(PROMPTS)
    state.keep(kept)
    sequences, found = [list(sequences[row]) for row in kept], found[kept]
    for step in range(4):
        tokens = np.array([(7 * row + step) % VOCABULARY for row in range(len(kept))])
        found = state.step(tokens)
        sequences = [[*ids, int(token)] for ids, token in zip(sequences, tokens, strict=True)]
        np.testing.assert_allclose(found, [scores(ids)[-1] for ids in sequences], atol=1e-4)
    state.close()


def test_several_sequences_of_each_prompt(made: Opened) -> None:
    model = made()
    options = {"do_sample": True, "seed": 3, "num_return_sequences": 3}
    together = written(model, PROMPTS, **options)
    alone = [tokens for prompt in PROMPTS for tokens in written(model, [prompt], **options)]
    assert len({tuple(tokens) for tokens in together}) == 12
    assert together[:3] == alone[:3]  # the first prompt's draw from the same streams


def test_guessed_tokens_change_nothing(made: Opened) -> None:
    model = made()
    for prompt in PROMPTS:
        assert written(model, [prompt * 3], generate=lookup.generate, prompt_lookup_tokens=4) == expected([prompt * 3])


@pytest.mark.parametrize("common", [1, 4, 9])
def test_common_prefix_is_reused(made: Opened, common: int) -> None:
    model = made()
    state = model.open(ROOM)
    first = [*PROMPTS[2], *written(model, [PROMPTS[2]], state=state)[0]]
    turn = [*first[:common], 1, 2, 3]
    assert written(model, [turn], state=state) == expected([turn])
    assert state.reused == common
    state.close()


def test_the_same_prompt_again_reads_its_last_token(made: Opened) -> None:
    model = made()
    state = model.open(ROOM)
    for _ in range(2):
        assert written(model, [PROMPTS[0]], state=state) == expected([PROMPTS[0]])
    assert state.reused == len(PROMPTS[0]) - 1
    state.close()


def test_cache_grows_beyond_its_room(made: Opened) -> None:
    model = made()
    state = model.open(1)
    assert written(model, PROMPTS, state=state, max_new_tokens=30) == expected(PROMPTS, 30)
    state.close()


def test_two_generations_at_once(made: Opened) -> None:
    model = made()
    states = [model.open(ROOM), model.open(ROOM)]
    found: list[list[int]] = [[], []]
    options = GenerationOptions(max_new_tokens=ROOM)
    pairs = zip(
        *(stepwise.generate(state, DecodeRequest([PROMPTS[row]], options)) for row, state in enumerate(states)),
        strict=True,
    )
    for both in pairs:
        for row, emitted in enumerate(both):
            found[row].append(emitted.token or 0)
    assert found == expected(PROMPTS[:2])


def test_only_the_needed_scores_are_computed(
    made: Opened, kind: Kind, scored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = []
    fetch = Binding.fetch

    def seen(self: Binding, name: str, array: Any) -> None:
        shapes.append(array.shape)
        fetch(self, name, array)

    monkeypatch.setattr(Binding, "fetch", seen)
    state = made().open(ROOM)
    state.start(PROMPTS[2:3])
    assert shapes.pop() == (1, 7 if scored == "all-logits" else 1, VOCABULARY)
    assert len(state.extend([1, 2, 3])) == 3
    assert shapes.pop() == (1, 3, VOCABULARY)
    made().open(ROOM).start(PROMPTS[2:])
    spread = 5 if kind == "shared" else 1  # padded on the right, the shorter one ends four places before the longer
    assert shapes.pop() == (2, 7 if scored == "all-logits" else spread, VOCABULARY)


def test_device_that_copies_bound_inputs(made: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """As CUDA does: an array that changes after it was bound is not seen."""
    model = made()
    bind = model.session.bind

    def bound() -> Binding:
        binding = bind()
        binding.copies = True
        return binding

    feed, override = Binding.feed, Binding.override
    monkeypatch.setattr(model.session, "bind", bound)
    monkeypatch.setattr(Binding, "feed", lambda self, name, array: feed(self, name, array.copy()))
    monkeypatch.setattr(Binding, "override", lambda self, name, array: override(self, name, array.copy()))
    assert written(model, PROMPTS) == expected(PROMPTS)
    assert [written(model, [prompt], generate=lookup.generate, prompt_lookup_tokens=4)[0] for prompt in PROMPTS] == (
        expected(PROMPTS)
    )


@pytest.mark.parametrize(("device", "moves"), [("cpu", False), ("dml", True), ("coreml:1", True)])
def test_host_memory_is_bound_for_every_call_of_a_device(device: str, moves: bool) -> None:
    tensor = CacheTensor("past_key_values.0.key", "present.0.key", "float32", ("batch", 2, "past", 8), 2)
    assert SharedCache([tensor], 1, 4, device).moves is moves
