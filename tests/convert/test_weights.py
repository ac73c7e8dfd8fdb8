"""Weights that are streamed to the file: the graph is equal to the one that torch serializes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from gpux.runtime.session import Session

pytestmark = pytest.mark.toolchain
TRIAL = Path(__file__).parent / "weights_trial.py"
SRC = Path(__file__).parents[2] / "src"


@pytest.fixture(scope="module")
def written(toolchain_python: Path, shared_folder: Callable[[str], Path]) -> Path:
    """The folder of the trial's graphs."""
    folder = shared_folder(f"weights-{os.getpid()}")
    done = subprocess.run([toolchain_python, "-I", TRIAL, SRC, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def ordered(file: Path) -> onnx.ModelProto:
    """The graph with its weights inside, in the order of their names."""
    model = onnx.load(file)
    weights = sorted(model.graph.initializer, key=lambda weight: weight.name)
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)
    return model


def whole(file: Path) -> onnx.ModelProto:
    """The graph with transposed weights as initializers instead of nodes."""
    model = ordered(file)
    for node in [node for node in model.graph.node if node.name.startswith("transpose.")]:
        arrays = {weight.name: onnx.numpy_helper.to_array(weight) for weight in model.graph.initializer}
        model.graph.initializer.append(onnx.numpy_helper.from_array(arrays[node.input[0]].T.copy(), node.output[0]))
        model.graph.node.remove(node)
    return model


def by_name(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {weight.name: weight for weight in model.graph.initializer}


def test_the_same_graph_with_the_same_weights(written: Path) -> None:
    expected, found = ordered(written / "torch.onnx"), whole(written / "apart.onnx")
    assert {weight.data_type for weight in expected.graph.initializer} >= {1, 7, 9}  # floats, integers, truths
    assert by_name(found) == by_name(expected)
    for model in (expected, found):
        del model.graph.initializer[:]
    assert found == expected


def test_a_matrix_and_its_transpose_are_written_once(written: Path) -> None:
    shapes = [tuple(weight.dims) for weight in onnx.load(written / "torch.onnx").graph.initializer]
    assert {(300, 40), (40, 300)} <= set(shapes)
    shapes.remove((40, 300))
    assert sorted(tuple(weight.dims) for weight in onnx.load(written / "apart.onnx").graph.initializer) == sorted(
        shapes
    )


def test_weights_too_large_for_one_file_are_written_beside_it(written: Path) -> None:
    outside = onnx.load(written / "beside.onnx", load_external_data=False).graph.initializer
    places = {
        weight.name: {entry.key: entry.value for entry in weight.external_data}
        for weight in outside
        if weight.external_data
    }
    assert {place["location"] for place in places.values()} == {"beside.onnx_data"}
    assert (written / "beside.onnx_data").stat().st_size == sum(int(place["length"]) for place in places.values())
    within = [weight for weight in outside if weight.name not in places]
    assert within
    assert all(len(weight.raw_data) < 1024 for weight in within)
    expected = by_name(onnx.load(written / "apart.onnx"))
    for name, weight in by_name(onnx.load(written / "beside.onnx")).items():
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(weight), onnx.numpy_helper.to_array(expected[name]))


@pytest.mark.parametrize("name", ["apart", "beside"])
def test_the_outputs_equal_those_of_the_graph_that_torch_wrote(written: Path, name: str) -> None:
    ids = np.random.default_rng(0).integers(0, 300, (3, 17))
    with Session(written / "torch.onnx", device="cpu") as one, Session(written / f"{name}.onnx", device="cpu") as two:
        np.testing.assert_array_equal(two.run({"ids": ids})["scores"], one.run({"ids": ids})["scores"])


def test_torch_is_unchanged_afterwards(written: Path) -> None:
    assert (written / "again.onnx").read_bytes() == (written / "torch.onnx").read_bytes()
