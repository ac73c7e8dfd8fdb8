"""Removal of the defaults of inputs from a graph, for execution providers that ignore other values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gpux.runtime.default_inputs import LARGEST_BYTES, split_defaults


def write(file: Path, *, inputs: tuple[str, ...], external_data: bool = False) -> Path:
    """``y = x * factor + weight``; the initializers ``factor`` and ``weight`` may be inputs too."""
    width = LARGEST_BYTES
    shapes = {"x": [width], "factor": [1], "weight": [width]}
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["scaled"]), helper.make_node("Add", ["scaled", "weight"], ["y"])],
        "scaled",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in ("x", *inputs)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [width])],
        [
            numpy_helper.from_array(np.array([2], np.float32), "factor"),
            numpy_helper.from_array(np.ones(width, np.float32), "weight"),
        ],
    )
    options = {"save_as_external_data": True, "location": "data", "size_threshold": 1024} if external_data else {}
    onnx.save(helper.make_model(graph), file, **options)
    return file


@pytest.mark.parametrize("external_data", [False, True])
def test_a_small_default_is_removed_and_a_weight_stays(tmp_path: Path, external_data: bool) -> None:
    content, defaults = split_defaults(
        write(tmp_path / "m.onnx", inputs=("factor", "weight"), external_data=external_data)
    )

    assert content is not None
    model = onnx.load_from_string(content)
    assert {name: value.tolist() for name, value in defaults.items()} == {"factor": [2.0]}
    assert [tensor.name for tensor in model.graph.initializer] == ["weight"]
    assert [value.name for value in model.graph.input] == ["x", "factor", "weight"]


def test_a_graph_without_defaults_is_not_copied(tmp_path: Path) -> None:
    assert split_defaults(write(tmp_path / "m.onnx", inputs=())) == (None, {})


def test_an_unreadable_file_is_left_to_onnxruntime(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"not a model")

    assert split_defaults(tmp_path / "m.onnx") == split_defaults(tmp_path / "missing.onnx") == (None, {})
