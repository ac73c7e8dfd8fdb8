from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gpux.errors import InputError, UsageError
from gpux.runtime.graphs import Graphs
from gpux.runtime.limits import KEY, check_limits, read_limits, write_limits
from gpux.runtime.session import Session


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "length"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "length"])
    made = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "twice", [x], [y])
    file = tmp_path / "model.onnx"
    onnx.save(helper.make_model(made, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), file)
    return file


def test_session_rejects_inputs_beyond_the_limits(graph: Path) -> None:
    write_limits(graph, {"x": {"1": 4}})
    with Session(graph, device="cpu") as session:
        assert session.limits == {"x": {1: 4}}
        session.run({"x": np.ones((2, 4), np.float32)})
        with pytest.raises(InputError, match=r"'x' has 5 on axis 1, and the limit of the graph is 4"):
            session.run({"x": np.ones((2, 5), np.float32)})
    assert len(onnx.load(graph).graph.node) == 1


def test_a_graph_without_limits_has_none(graph: Path) -> None:
    with Session(graph, device="cpu") as session:
        assert session.limits == {}


@pytest.mark.parametrize("text", ["", "[]", "[1]", '{"x": 3}', '{"x": {"y": 1}}', "null"])
def test_invalid_metadata_is_ignored(text: str) -> None:
    assert read_limits({KEY: text}) == {}


def test_an_input_that_the_graph_dropped_is_not_checked() -> None:
    limits = {"x": {1: 4}}
    assert check_limits({}, limits) is None  # type: ignore[func-returns-value]
    with pytest.raises(InputError, match="'x' has 5 on axis 1"):
        check_limits({"x": np.ones((2, 5), np.float32)}, limits)


def test_graphs_are_opened_on_first_use(graph: Path) -> None:
    with Graphs(graph.parent, {"one": graph.name, "gone": "gone.onnx"}) as graphs:
        assert graphs.names == ("one", "gone")
        np.testing.assert_equal(graphs.run("one", {"x": np.ones((1, 2), np.float32)})["y"], [[2, 2]])
        assert graphs.session("one") is graphs.session("one")
        with pytest.raises(UsageError, match="no graph 'two'"):
            graphs.session("two")
        kept = graphs.session("one")
    assert kept.closed
