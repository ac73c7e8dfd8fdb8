"""The optional input `logits_start` of decoders. Without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gpux.convert.worker.common import logits
from gpux.runtime.session import Session
from tests.runtime.generation import tiny_graphs

Change = Callable[[Path], bool]


@pytest.fixture
def add_logits_start(monkeypatch: pytest.MonkeyPatch) -> Change:
    found: Change = logits.add_logits_start
    return found


def feed(count: int) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    ids = np.arange(count)[None]
    past = np.zeros((1, tiny_graphs.HEADS, 0, tiny_graphs.SIZE), np.float32)
    caches = {f"past_key_values.0.{part}": past for part in ("key", "value")}
    return {"input_ids": ids, "position_ids": ids, "attention_mask": np.ones_like(ids), **caches}


@pytest.mark.parametrize("kind", ["growing", "shared"])
def test_the_last_logits_equal_those_of_a_full_call(
    tmp_path: Path, add_logits_start: Change, kind: tiny_graphs.Kind
) -> None:
    file = tiny_graphs.write(tmp_path / "model.onnx", kind)
    with Session(file, device="cpu") as session:
        whole = session.run(feed(9), ["logits"])["logits"]
        assert session.optional == ()
    assert add_logits_start(file)
    with Session(file, device="cpu") as session:
        assert [spec.name for spec in session.optional] == ["logits_start"]
        assert "logits_start" not in {spec.name for spec in session.inputs}
        for keep in (0, 1, 4, 9, 20):
            last = session.run({**feed(9), "logits_start": [-keep]}, ["logits"])["logits"]
            np.testing.assert_allclose(last, whole[:, -keep:], atol=1e-6)
        np.testing.assert_array_equal(session.run(feed(9), ["logits"])["logits"], whole)


def test_the_input_is_added_once(tmp_path: Path, add_logits_start: Change) -> None:
    file = tiny_graphs.write(tmp_path / "model.onnx", "shared")
    assert add_logits_start(file)
    before = file.read_bytes()
    assert not add_logits_start(file)
    assert file.read_bytes() == before


def head(file: Path, nodes: Sequence[onnx.NodeProto]) -> Path:
    """The tiny decoder with other nodes instead of its head."""
    tiny_graphs.write(file, "growing")
    model = onnx.load(file)
    model.graph.node.pop()
    model.graph.node.extend(nodes)
    model.graph.initializer.append(numpy_helper.from_array(np.float32(3), "cap"))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(48, np.float32), "bias"))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((5, 48), np.float32), "by_place"))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((48, 16), np.float32), "turned_head"))
    onnx.save(model, file)
    return file


def test_operators_after_the_head(tmp_path: Path, add_logits_start: Change) -> None:
    nodes = [
        helper.make_node("Transpose", ["turned_head"], ["own_head"], perm=[1, 0]),
        helper.make_node("MatMul", ["bounded", "own_head"], ["unbounded"]),
        helper.make_node("Add", ["bias", "unbounded"], ["biased"]),
        helper.make_node("Div", ["biased", "cap"], ["small"]),
        helper.make_node("Tanh", ["small"], ["capped"]),
        helper.make_node("Mul", ["capped", "cap"], ["logits"]),
    ]
    file = head(tmp_path / "model.onnx", nodes)
    assert add_logits_start(file)
    with Session(file, device="cpu") as session:
        assert session.run({**feed(9), "logits_start": [-2]}, ["logits"])["logits"].shape == (1, 2, 48)


@pytest.mark.parametrize(
    "nodes",
    [
        [
            helper.make_node("MatMul", ["bounded", "head"], ["unbounded"]),
            helper.make_node("Softmax", ["unbounded"], ["logits"]),
        ],
        [
            helper.make_node("MatMul", ["bounded", "head"], ["unbounded"]),
            helper.make_node("Mul", ["unbounded", "unbounded"], ["logits"]),
        ],
        [
            helper.make_node("MatMul", ["bounded", "head"], ["unbounded"]),
            helper.make_node("Add", ["unbounded", "by_place"], ["logits"]),
        ],
        [
            helper.make_node("Transpose", ["bounded"], ["turned_text"], perm=[0, 2, 1]),
            helper.make_node("MatMul", ["bounded", "turned_text"], ["logits"]),
        ],
    ],
    ids=["softmax", "squared", "by place", "no weight"],
)
def test_a_graph_with_another_head_is_unchanged(
    tmp_path: Path, add_logits_start: Change, nodes: list[onnx.NodeProto]
) -> None:
    file = head(tmp_path / "model.onnx", nodes)
    before = file.read_bytes()
    assert not add_logits_start(file)
    assert file.read_bytes() == before


def test_a_graph_that_is_not_a_decoder_is_unchanged(tmp_path: Path, add_logits_start: Change) -> None:
    assert not add_logits_start(tiny_graphs.write_without_cache(tmp_path / "words.onnx"))
    file = tiny_graphs.write(tmp_path / "model.onnx", "growing")
    model = onnx.load(file)
    states = helper.make_tensor_value_info("encoder_hidden_states", TensorProto.FLOAT, ["batch", "text", 16])
    model.graph.input.append(states)
    onnx.save(model, file)
    assert not add_logits_start(file)


def test_weights_that_are_still_inputs(tmp_path: Path, add_logits_start: Change) -> None:
    file = tiny_graphs.write(tmp_path / "model.onnx", "growing")
    model = onnx.load(file)
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "head")
    model.graph.initializer.remove(weight)
    model.graph.input.append(helper.make_tensor_value_info("head", TensorProto.FLOAT, [16, 48]))
    onnx.save(model, file)
    assert not add_logits_start(file)
    assert logits.add_logits_start(file, {"head": 2})
