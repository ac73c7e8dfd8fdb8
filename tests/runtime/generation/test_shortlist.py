"""Steps that leave the head out write what those with it write, and are made only where they can be and pay."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from gpux.convert.worker.common import logits
from gpux.errors import CorruptFileError, NumericError
from gpux.runtime.generation import beams, lookup, loop, rounded_head, shortlist
from gpux.runtime.generation.decoder import Decoder
from gpux.runtime.generation.head import Head, find_head
from gpux.runtime.generation.options import GenerationOptions
from gpux.runtime.generation.rounded_head import RoundedHead
from gpux.runtime.generation.scorer import Scorer
from gpux.runtime.generation.shortlist import ShortCaller, Shortlist
from gpux.runtime.session import Session
from tests.runtime.generation import tiny_graphs
from tests.runtime.generation.tiny_decoders import DRIVING, PROMPTS, ROOM, ready, written
from tests.runtime.generation.tiny_graphs import HIDDEN, VOCABULARY, Kind

Change = Callable[[onnx.ModelProto], None]


@pytest.fixture
def graph(tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny decoder, its embedding the head too."""
    file = tiny_graphs.tie(tiny_graphs.write(tmp_path / "model.onnx", kind))
    assert logits.let_start_logits(file)
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
    monkeypatch.setattr(rounded_head, "_FEW", 1.0)


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
    assert len(asked) == max(map(len, without)) - 2, "the first scores come from the prompt, the next from a check"


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
        state.step(np.array([1, 2]), 1)
        caller = state._steps._short
        assert isinstance(caller, ShortCaller)
        original = caller.binding.run

        def run() -> None:
            original()
            caller._scorer.hidden[1, 0] = np.nan

        caller.binding.run = run  # type: ignore[method-assign]  # as a graph that overflows
        with pytest.raises(NumericError), np.errstate(invalid="ignore"):
            loop._best(state.step(np.array([1, 2]), 1))
        state.close()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_say_nothing_of_the_head(pair: tuple[Decoder, Decoder], bad: float) -> None:
    caller = pair[1].short_caller()
    assert caller is not None
    caller._head.check(np.full((1, HIDDEN), bad, np.float32), np.full((1, VOCABULARY), np.nan, np.float32))
    assert not caller._head.checked
    assert caller.pays
    caller.close()


def test_it_waits_until_it_is_worth_it(graph: Path) -> None:
    with Session(graph, device="cpu") as session:
        found = Shortlist(session, worth=10, least=0)
        assert found.count(9) is None
        assert found.head is None
        assert found.nbytes == 0
        thread = found.count(1)
        assert thread is not None
        thread.join()
        assert found.nbytes >= VOCABULARY * HIDDEN
        assert found.count(100) is None, "it is made once"
        found.close()
        found.close()
        assert found.head is None


def test_a_small_head_is_read_whole(graph: Path) -> None:
    with Session(graph, device="cpu") as session:
        found = Shortlist(session, worth=1, least=VOCABULARY * HIDDEN * 4 + 1)
        thread = found.count(1)
        assert thread is not None
        thread.join()
        assert found.head is None


def test_it_is_not_kept_for_a_model_that_was_closed_meanwhile(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Session(graph, device="cpu") as session:
        found = Shortlist(session, worth=1, least=0)

        def closing(*_: Any) -> bool:
            found.close()
            return True

        monkeypatch.setattr(RoundedHead, "holds", closing)  # the last that is done
        thread = found.count(1)
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
        monkeypatch.setattr(rounded_head, "load", lambda *_, **__: opened.append(1))
        thread = found.count(1)
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
shortlist.Shortlist(Session(Path({str(graph)!r}), device="cpu"), worth=1, least=0).count(1)
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
        thread = found.count(1)
        assert thread is not None
        thread.join()
        assert found.head is None
        assert len(written(Decoder(session, DRIVING[kind], shortlist=found), PROMPTS)) == len(PROMPTS)


def test_one_that_tells_too_little_is_left(
    pair: tuple[Decoder, Decoder], asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounded_head, "_TRIAL", 0)
    monkeypatch.setattr(rounded_head, "_FEW", 0.0)
    assert written(pair[1], PROMPTS) == written(pair[0], PROMPTS)
    assert len(asked) == 1


def test_weights_that_were_replaced_are_not_used(
    graph: Path, kind: Kind, asked: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """As by a pull into the same folder, after the graph was loaded."""
    caplog.set_level("INFO")
    with Session(graph, device="cpu") as session:
        whole = written(Decoder(session, DRIVING[kind], shortlist=Shortlist(session, worth=1 << 60)), PROMPTS)
        data = graph.parent / "model.onnx_data"
        weights = np.frombuffer(data.read_bytes(), np.float32)
        other = weights + np.random.default_rng(0).normal(size=weights.size).astype(np.float32) / 1000
        data.with_suffix(".new").write_bytes(other.tobytes())
        data.with_suffix(".new").replace(data)
        model = Decoder(session, DRIVING[kind], shortlist=ready(session))
        assert written(model, PROMPTS) == whole
        assert not asked
        assert model.shortlist.head is None
        assert "not what the graph's head multiplies with" in caplog.text


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), CorruptFileError("the file is shorter")])
def test_weights_that_cannot_be_read_any_more_are_no_reason_to_fail(
    pair: tuple[Decoder, Decoder], asked: list[int], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    original = Head.rows

    def rows(self: Head, tokens: Any) -> Any:
        if len(asked) > 3:
            raise error
        return original(self, tokens)

    monkeypatch.setattr(Head, "rows", rows)
    assert written(pair[1], PROMPTS) == written(pair[0], PROMPTS)
    assert len(asked) == 4
    assert pair[1].shortlist.head is None


@pytest.mark.parametrize(
    "options", [{"repetition_penalty": 1.2}, {"logprobs": 1}, {"do_sample": True, "seed": 1}, {"num_beams": 2}]
)
def test_what_cannot_use_it_does_not_make_it(graph: Path, kind: Kind, options: dict[str, Any]) -> None:
    generate = beams.search if "num_beams" in options else loop.generate
    with Session(graph, device="cpu") as session:
        found = Shortlist(session, worth=1, least=0)
        model = Decoder(session, DRIVING[kind], shortlist=found)
        state = model.open(ROOM)
        list(generate(state, PROMPTS[:1], GenerationOptions(max_new_tokens=ROOM, **options)))
        state.close()
        thread = found.count(1)
        assert thread is not None, "nothing was counted before"
        thread.join()


def test_a_thread_that_cannot_start_is_no_reason_to_fail(
    graph: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with Session(graph, device="cpu") as session:
        found = Shortlist(session, worth=1, least=0)
        assert len(written(Decoder(session, DRIVING[kind], shortlist=found), PROMPTS)) == len(PROMPTS)
        assert found.head is None


@pytest.mark.parametrize("spinning", [True, False])
def test_its_threads_wait_as_the_graphs_do(graph: Path, monkeypatch: pytest.MonkeyPatch, spinning: bool) -> None:
    asked: list[bool] = []
    original = rounded_head.load

    def load(*arguments: Any, spinning: bool) -> Any:
        asked.append(spinning)
        return original(*arguments, spinning=spinning)

    monkeypatch.setattr(rounded_head, "load", load)
    with Session(graph, device="cpu", spinning=spinning) as session:
        ready(session)
    assert asked == [spinning]


def test_a_graph_that_was_overwritten_is_no_reason_to_fail(graph: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Session(graph, device="cpu") as session:
        graph.write_bytes(b"\xff" * 100)
        found = Shortlist(session, worth=1, least=0)
        thread = found.count(1)
        assert thread is not None
        thread.join()
        assert found.head is None
    assert not capfd.readouterr().err


def _scale(model: onnx.ModelProto) -> None:
    head = next(node for node in model.graph.node if node.output[0] == "logits")
    head.output[0] = "raw"
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "half"))
    model.graph.node.append(helper.make_node("Mul", ["raw", "half"], ["logits"]))


def _copy_head(model: onnx.ModelProto) -> None:
    transpose = next(node for node in model.graph.node if node.op_type == "Transpose" and node.output[0] == "head")
    model.graph.node.remove(transpose)
    model.graph.initializer.append(numpy_helper.from_array(tiny_graphs.weights()["head"], "head"))


def _keep_order(model: onnx.ModelProto) -> None:
    transpose = next(node for node in model.graph.node if node.op_type == "Transpose" and node.output[0] == "head")
    del transpose.attribute[:]
    transpose.attribute.append(helper.make_attribute("perm", [0, 1]))


def _apart(model: onnx.ModelProto) -> None:
    """A head of its own, beside the graph as the others are, [size, vocabulary]."""
    _copy_head(model)
    head = model.graph.initializer[-1]
    words = next(tensor for tensor in model.graph.initializer if tensor.name == "words")
    head.ClearField("raw_data")
    head.data_location = words.data_location
    head.external_data.extend(words.external_data)


def _inline(model: onnx.ModelProto) -> None:
    words = next(tensor for tensor in model.graph.initializer if tensor.name == "words")
    words.CopyFrom(numpy_helper.from_array(tiny_graphs.weights()["words"], "words"))


def _unslice(model: onnx.ModelProto) -> None:
    head = next(node for node in model.graph.node if node.output[0] == "logits")
    head.input[0] = "hidden_states"


@pytest.mark.parametrize("change", [_scale, _copy_head, _keep_order, _apart, _inline, _unslice])
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
        assert Shortlist(session, worth=1, least=0).count(1000) is None


def test_another_device_is_never_tried(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "execution_provider", "CUDAExecutionProvider")
    with Session(graph, device="cpu") as session:
        assert Shortlist(session, worth=1, least=0).count(1000) is None


def test_wishes_of_options() -> None:
    from gpux.runtime.generation.choosing import Row

    def best(**options: Any) -> int | None:
        return Row(0, [1], GenerationOptions(**options)).best

    assert best() == 1
    assert best(do_sample=True) is None
    assert best(do_sample=True, top_k=50, top_p=0.9) == 50
    assert best(no_repeat_ngram_size=2) is None
    assert best(logprobs=0) is None
    assert Row(0, [1], GenerationOptions(), constraint=object()).best is None  # type: ignore[arg-type]  # never asked
