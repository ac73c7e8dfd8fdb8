"""Steps that leave the head out write what those with it write, and are made only where they can be and pay."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from gpux.convert.optimum import WORKER
from gpux.errors import NumericError
from gpux.runtime.generation import lookup, loop, rounded, shortlist
from gpux.runtime.generation.decoder import Decoder
from gpux.runtime.generation.head import Head, find_head
from gpux.runtime.generation.options import GenerationOptions
from gpux.runtime.generation.rounded import Scorer
from gpux.runtime.generation.shortlist import ShortCaller, Shortlist
from gpux.runtime.session import Session
from tests.runtime.generation import tiny_graphs
from tests.runtime.generation.tiny_decoders import DRIVING, PROMPTS, ready, written
from tests.runtime.generation.tiny_graphs import HIDDEN, VOCABULARY, Kind

Change = Callable[[onnx.ModelProto], None]


@pytest.fixture
def graph(tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny decoder, its embedding the head too."""
    monkeypatch.syspath_prepend(WORKER)
    file = tiny_graphs.tie(tiny_graphs.write(tmp_path / "model.onnx", kind))
    assert importlib.import_module("logits").let_start_logits(file)
    return file


@pytest.fixture
def pair(graph: Path, kind: Kind) -> Iterator[tuple[Decoder, Decoder]]:
    """The decoder without a shortlist, and with one."""
    with Session(graph, device="cpu") as session:
        without = Decoder(session, DRIVING[kind], shortlist=Shortlist(session, worth=1 << 60))
        yield without, Decoder(session, DRIVING[kind], shortlist=ready(session))


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few tokens are much of the tiny vocabulary."""
    monkeypatch.setattr(rounded, "_FEW", 1.0)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many of the best were wanted, for each step that left the head out."""
    counts: list[int] = []
    original = Scorer.scores

    def scores(self: Any, best: int) -> Any:
        counts.append(best)
        return original(self, best)

    monkeypatch.setattr(Scorer, "scores", scores)
    return counts


@pytest.mark.parametrize(
    ("options", "best"),
    [
        ({}, 1),
        ({"eos_token_ids": (3, 11)}, 1),
        ({"do_sample": True, "top_k": 3, "seed": 4, "temperature": 2.0}, 3),
        ({"do_sample": True, "top_k": 5, "top_p": 0.9, "seed": 1, "num_return_sequences": 3}, 5),
        ({"do_sample": True, "top_k": 4, "min_p": 0.05, "typical_p": 0.9, "seed": 9, "temperature": 3.0}, 4),
    ],
    ids=["greedy", "ends", "top-k", "top-p", "typical"],
)
@pytest.mark.usefixtures("lenient")
def test_the_same_is_written(
    pair: tuple[Decoder, Decoder], asked: list[int], options: dict[str, Any], best: int
) -> None:
    without, with_one = (written(model, PROMPTS, **options) for model in pair)
    assert with_one == without
    assert set(asked) == {best}
    assert len(asked) == max(map(len, without)) - 1, "the first token's scores come from the prompt"


@pytest.mark.parametrize(
    "options",
    [
        {"logprobs": 2},
        {"do_sample": True, "seed": 1},
        {"do_sample": True, "seed": 1, "top_p": 0.5},
        {"repetition_penalty": 1.3},
        {"suppress_tokens": (4,)},
        {"do_sample": True, "seed": 1, "top_k": shortlist.MOST + 1},
    ],
    ids=lambda options: next(reversed(options)),
)
def test_where_all_scores_count_all_are_computed(
    pair: tuple[Decoder, Decoder], asked: list[int], options: dict[str, Any]
) -> None:
    assert written(pair[1], PROMPTS, **options) == written(pair[0], PROMPTS, **options)
    assert not asked


def test_rows_of_different_wishes(pair: tuple[Decoder, Decoder]) -> None:
    """A state goes from one kind of step to the other and back, and rows leave in between."""
    found = []
    for model in pair:
        state = model.open(30)
        tokens = state.start(PROMPTS).argmax(axis=1)
        rows = []
        for step in range(14):
            if step in (5, 9):
                state.keep(range(state.rows - 1))
                tokens = tokens[:-1]
            tokens = state.step(tokens, 1 if step % 3 else None).argmax(axis=1)
            rows.append(tokens.tolist())
        found.append(rows)
        state.close()
    assert found[0] == found[1]


def test_prompt_lookup_steps_by_it(pair: tuple[Decoder, Decoder], asked: list[int]) -> None:
    options: dict[str, Any] = {"generate": lookup.generate, "prompt_lookup_tokens": 3, "max_new_tokens": 20}
    assert written(pair[1], PROMPTS[:1], **options) == written(pair[0], PROMPTS[:1], **options)
    assert asked


def test_a_chat_goes_on_after_it(pair: tuple[Decoder, Decoder]) -> None:
    found = []
    for model in pair:
        state = model.open(30)
        first = written(model, PROMPTS[:1], state=state)[0]
        found.append([first, written(model, [[*PROMPTS[0], *first, 7]], state=state)[0]])
        assert state.reused == len(PROMPTS[0]) + len(first) - 1
        state.close()
    assert found[0] == found[1]


def test_scores_that_are_no_numbers(graph: Path, kind: Kind) -> None:
    with Session(graph, device="cpu") as session:
        model = Decoder(session, DRIVING[kind], shortlist=ready(session))
        state = model.open(10)
        state.start(PROMPTS[:2])
        caller = state._stepping(1)
        assert isinstance(caller, ShortCaller)
        original = caller.binding.run

        def run() -> None:
            original()
            caller._scorer.hidden[1, 0] = np.nan

        caller.binding.run = run  # type: ignore[method-assign]  # as a graph that overflows
        with pytest.raises(NumericError), np.errstate(invalid="ignore"):
            loop._best(state.step(np.array([1, 2]), 1))
        state.close()


def test_it_waits_until_it_is_worth_it(graph: Path) -> None:
    with Session(graph, device="cpu") as session:
        found = Shortlist(session, worth=10, least=0)
        assert found.expect(9) is None
        assert found.head is None
        assert found.nbytes == 0
        thread = found.expect(1)
        assert thread is not None
        thread.join()
        assert found.nbytes >= VOCABULARY * HIDDEN
        assert found.expect(100) is None, "it is made once"
        found.close()
        found.close()
        assert found.head is None


def test_a_small_head_is_read_whole(graph: Path) -> None:
    with Session(graph, device="cpu") as session:
        found = Shortlist(session, worth=1, least=VOCABULARY * HIDDEN * 4 + 1)
        thread = found.expect(1)
        assert thread is not None
        thread.join()
        assert found.head is None


def test_it_is_not_kept_for_a_model_that_was_closed_meanwhile(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Session(graph, device="cpu") as session:
        found = Shortlist(session, worth=1, least=0)
        original = rounded.rounded

        def closing(*arguments: Any) -> Any:
            made = original(*arguments)
            found.close()
            return made

        monkeypatch.setattr(rounded, "rounded", closing)
        thread = found.expect(1)
        assert thread is not None
        thread.join()
        assert found.head is None


def test_it_stops_when_the_model_is_closed(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Session(graph, device="cpu") as session:
        found = Shortlist(session, worth=1, least=0)
        original, opened = Head.pieces, []

        def pieces(self: Any) -> Any:
            session.close()
            return original(self)

        monkeypatch.setattr(Head, "pieces", pieces)
        monkeypatch.setattr(rounded, "load", lambda *_, **__: opened.append(1))
        thread = found.expect(1)
        assert thread is not None
        thread.join()
        assert found.head is None
        assert not opened


def test_a_program_that_ends_meanwhile_ends(tmp_path: Path, graph: Path) -> None:
    """The thread goes on beside the end of the program, and stops at the next piece."""
    program = f"""
import time
from pathlib import Path
from gpux.runtime.generation import head, shortlist
from gpux.runtime.session import Session
original = head.Head.pieces
def pieces(self):
    for piece in original(self):
        time.sleep(0.5)
        yield piece
head.Head.pieces = pieces
head._PIECE = 4 * {HIDDEN}
shortlist.Shortlist(Session(Path({str(graph)!r}), device="cpu"), worth=1, least=0).expect(1)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def test_a_generation_goes_on_when_the_model_is_closed(graph: Path, kind: Kind) -> None:
    with Session(graph, device="cpu") as session:
        model = Decoder(session, DRIVING[kind], shortlist=ready(session))
        state = model.open(10)
        tokens = state.start(PROMPTS).argmax(axis=1)
        tokens = state.step(tokens, 1).argmax(axis=1)
        model.close()
        assert np.isfinite(state.step(tokens, 1).max(axis=1)).all()
        state.close()


def test_weights_that_went_away_are_no_reason_to_fail(graph: Path, kind: Kind) -> None:
    with Session(graph, device="cpu") as session:
        (graph.parent / "model.onnx_data").unlink()
        found = Shortlist(session, worth=1, least=0)
        thread = found.expect(1)
        assert thread is not None
        thread.join()
        assert found.head is None
        assert len(written(Decoder(session, DRIVING[kind], shortlist=found), PROMPTS)) == len(PROMPTS)


def test_one_that_tells_too_little_is_left(
    pair: tuple[Decoder, Decoder], asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounded, "_TRIAL", 0)
    monkeypatch.setattr(rounded, "_FEW", 0.0)
    assert written(pair[1], PROMPTS) == written(pair[0], PROMPTS)
    assert len(asked) == 1


def _scale(model: onnx.ModelProto) -> None:
    head = next(node for node in model.graph.node if node.output[0] == "logits")
    head.output[0] = "raw"
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "half"))
    model.graph.node.append(helper.make_node("Mul", ["raw", "half"], ["logits"]))


def _copy_head(model: onnx.ModelProto) -> None:
    transpose = next(node for node in model.graph.node if node.op_type == "Transpose" and node.output[0] == "head")
    model.graph.node.remove(transpose)
    model.graph.initializer.append(numpy_helper.from_array(tiny_graphs.weights()["head"], "head"))


def _inline(model: onnx.ModelProto) -> None:
    words = next(tensor for tensor in model.graph.initializer if tensor.name == "words")
    words.CopyFrom(numpy_helper.from_array(tiny_graphs.weights()["words"], "words"))


def _unslice(model: onnx.ModelProto) -> None:
    head = next(node for node in model.graph.node if node.output[0] == "logits")
    head.input[0] = "hidden_states"


@pytest.mark.parametrize("change", [_scale, _copy_head, _inline, _unslice])
def test_a_head_that_is_not_found(graph: Path, change: Change) -> None:
    model = onnx.load(graph, load_external_data=False)
    found = find_head(graph)
    assert found is not None
    assert found.shape == (VOCABULARY, HIDDEN)
    np.testing.assert_array_equal(found.rows(range(VOCABULARY)), tiny_graphs.weights()["words"])
    change(model)
    onnx.save(model, graph)
    assert find_head(graph) is None


def test_a_graph_that_holds_its_weights_is_not_read(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpux.runtime.generation.head._LARGEST_GRAPH", 10)
    assert find_head(graph) is None


def test_a_graph_that_shows_nothing_is_never_tried(tmp_path: Path, kind: Kind) -> None:
    with Session(tiny_graphs.write(tmp_path / "model.onnx", kind), device="cpu") as session:
        assert Shortlist(session, worth=1, least=0).expect(1000) is None


def test_another_device_is_never_tried(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "execution_provider", "CUDAExecutionProvider")
    with Session(graph, device="cpu") as session:
        assert Shortlist(session, worth=1, least=0).expect(1000) is None


def test_wishes_of_options() -> None:
    from gpux.runtime.generation.choosing import Row

    def best(**options: Any) -> int | None:
        return Row(0, [1], GenerationOptions(**options)).best

    assert best() == 1
    assert best(do_sample=True) is None
    assert best(do_sample=True, top_k=50, top_p=0.9) == 50
    assert best(no_repeat_ngram_size=2) is None
    assert best(logprobs=0) is None
