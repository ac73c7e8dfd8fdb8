"""Graphs that are read without their weights, and weights that two graphs share. Without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gpux.convert.worker.common import structure
from gpux.convert.worker.optimum import weight_files
from gpux.runtime.graphs import Graphs


def graph(file: Path, table: np.ndarray, own: np.ndarray) -> Path:  # type: ignore[type-arg]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["count"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["count", table.shape[1]])
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Add", ["rows", "own"], ["y"]),
    ]
    weights = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(own, "own")]
    made = helper.make_graph(nodes, "lookup", [ids], [y], weights)
    onnx.save(helper.make_model(made, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), file)
    return file


TABLE = np.arange(512 * 640, dtype=np.float32).reshape(512, 640)


def test_a_structure_is_the_graph_without_its_large_weights(tmp_path: Path) -> None:
    file = graph(tmp_path / "model.onnx", TABLE, np.ones(640, np.float32))
    found = structure.read_structure(file)

    whole = onnx.load(file)
    table, own = found.graph.initializer
    assert (table.name, list(table.dims), table.raw_data) == ("table", [512, 640], b"")
    assert own == whole.graph.initializer[1]
    whole.graph.initializer[0].ClearField("raw_data")
    assert found == whole


def test_shared_weights_are_written_once_and_the_outputs_stay_equal(tmp_path: Path) -> None:
    offsets = {"one": np.ones(640, np.float32), "two": np.full(640, 2, np.float32)}
    files = {name: graph(tmp_path / f"{name}.onnx", TABLE, own) for name, own in offsets.items()}
    weight_files.share_across(files.values())

    shared = tmp_path / "shared.onnx_data"
    assert shared.stat().st_size == TABLE.nbytes
    assert sum(file.stat().st_size for file in files.values()) < 20_000
    with Graphs(tmp_path, {name: file.name for name, file in files.items()}) as graphs:
        for name, own in offsets.items():
            answer = graphs.run(name, {"ids": np.array([3, 500])})["y"]
            np.testing.assert_equal(answer, TABLE[[3, 500]] + own)


def test_graphs_with_nothing_in_common_stay_one_file_each(tmp_path: Path) -> None:
    files = [graph(tmp_path / f"{n}.onnx", TABLE + n, np.ones(640, np.float32)) for n in (0, 1)]
    weight_files.share_across(files)
    assert not (tmp_path / "shared.onnx_data").exists()
