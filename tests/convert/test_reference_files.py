"""Graphs with fixed axes, which the worker writes. Without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gpux.convert.worker.common import graphs
from gpux.convert.worker.reference import sizes
from gpux.errors import InputError
from gpux.runtime.session import Session


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Adds a weight with three rows, so that the height is not really dynamic."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", "height"])
    total = helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["batch", "height"])
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    made = helper.make_graph([helper.make_node("Add", ["image", "weight"], ["sum"])], "g", [image], [total], [weight])
    opset = helper.make_opsetid("", 17)
    file = tmp_path / "model.onnx"
    onnx.save(helper.make_model(made, opset_imports=[opset], ir_version=8), file)
    return file


def test_a_signature(graph: Path) -> None:
    found = graphs.read_signature(graph)
    assert found.inputs["image"].shape == ("batch", "height")
    assert found.inputs["image"].dtype == np.float32
    assert found.symbols() == {"batch": [("image", 0)], "height": [("image", 1)]}
    assert not found.fused_attention


def test_a_fixed_axis_is_enforced(graph: Path) -> None:
    graphs.fix_axes(graph, {"image": {1: 3}})
    with Session(graph, device="cpu") as session:
        assert session.inputs[0].shape == ("batch", 3)
        assert session.run({"image": np.zeros((2, 3), np.float32)})["sum"].shape == (2, 3)
        with pytest.raises(InputError):
            session.run({"image": np.zeros((2, 1), np.float32)})


def test_sizes_are_tried_in_onnxruntime(graph: Path) -> None:
    ones = np.ones((1, 3), np.float32)
    right = {"sum": ones + np.array([1, 2, 3], np.float32)}
    asked = [
        ({"image": ones}, right),
        ({"image": ones}, {"sum": right["sum"] + 1e-3}),
        ({"image": np.ones((1, 4), np.float32)}, right),  # fails
        ({"image": np.ones((1, 4), np.float32)}, None),  # the original fails, and so does the graph
        ({"image": np.ones((1, 1), np.float32)}, None),  # the original fails, and the graph answers
    ]
    assert sizes.works(graph, asked) == [True, False, False, True, False]


def test_kinds_of_axes() -> None:
    kinds = sizes.kind_of
    names = ("text_batch_size", "width", "num_channels", "max_depth", "sequence_length", "point_batch_size")
    assert [kinds(name) for name in names] == ["batch", "size", "channel", "channel", "length", "batch"]


def test_cases_of_a_graph_with_images() -> None:
    """One kind of axis at a time differs from the traced size."""
    traced = {"batch_size": 2, "height": 32, "width": 48, "sequence_length": 16}
    made = {one.name: one for one in sizes.variations(traced, image=(40, 50), longest=18)}
    assert made["traced"].sizes == traced
    assert made["batch"].sizes == {**traced, "batch_size": 3}
    assert made["image"].sizes == {**traced, "height": 40, "width": 50}
    assert made["longer"].sizes == {**traced, "sequence_length": 18}
    assert {one.kind for one in made.values()} == {None, "batch", "size", "length"}
