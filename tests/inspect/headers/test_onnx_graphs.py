"""The external data that an ONNX file names, wherever its tensors are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from gpux import errors
from gpux.inspect.headers.onnx_graphs import ExternalFile, external_files
from tests.models.external import external_tensor


def tensor(location: str, offset: int = 0, length: int = 16, name: str = "w") -> TensorProto:
    found = numpy_helper.from_array(np.zeros(4, np.float32), name)
    external_tensor(found, location, offset, length)
    return found


OUTPUT = helper.make_tensor_value_info("o", TensorProto.FLOAT, [4])
INPUT = helper.make_tensor_value_info("b", TensorProto.BOOL, [])


def graph(**parts: Any) -> bytes:
    constants = [helper.make_node("Constant", [], ["c"], value=parts["constant"])] if "constant" in parts else []
    found = helper.make_graph(constants, "g", [INPUT], [OUTPUT], initializer=parts.get("initializer", []))
    found.sparse_initializer.extend(parts.get("sparse", []))
    if "branch" in parts:
        branches = {"then_branch": parts["branch"], "else_branch": parts["branch"]}
        found.node.append(helper.make_node("If", ["b"], ["o"], **branches))
    model = helper.make_model(found)
    if "function" in parts:
        node = helper.make_node("Constant", [], ["o"], value=parts["function"])
        model.functions.append(helper.make_function("own", "f", [], ["o"], [node], []))
    return bytes(model.SerializeToString())


def branch(value: TensorProto) -> object:
    node = helper.make_node("Constant", [], ["c"], value=value)
    return helper.make_graph([node], "inner", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, [4])])


def sparse(value: TensorProto) -> object:
    indices = numpy_helper.from_array(np.arange(4), "indices")
    return helper.make_sparse_tensor(value, indices, [8])


@pytest.mark.parametrize(
    ("parts", "files"),
    [
        ({}, {}),
        ({"initializer": [numpy_helper.from_array(np.zeros(4, np.float32), "inside")]}, {}),
        ({"initializer": [tensor("weights.bin")]}, {"weights.bin": 16}),
        ({"initializer": [tensor("w", 32), tensor("w", 0, name="v"), tensor("x")]}, {"w": 48, "x": 16}),
        ({"initializer": [tensor("./deep/er/w")]}, {"deep/er/w": 16}),
        ({"initializer": [tensor("größe 1.bin")]}, {"größe 1.bin": 16}),
        ({"constant": tensor("Constant_7_attr__value")}, {"Constant_7_attr__value": 16}),
        ({"branch": branch(tensor("inner"))}, {"inner": 16}),
        ({"function": tensor("in_function")}, {"in_function": 16}),
        ({"sparse": [sparse(tensor("values"))]}, {"values": 16}),
    ],
)
def test_every_file_that_a_graph_names_is_found(tmp_path: Path, parts: dict[str, Any], files: dict[str, int]) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(graph(**parts))

    assert external_files(path) == tuple(ExternalFile(name, size) for name, size in sorted(files.items()))


@pytest.mark.parametrize("location", ["../w", "a/../../w", "/etc/passwd", "C:\\w", "a\\b", "a//b", "a\x00b", ".", ".."])
def test_a_file_outside_of_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(graph(initializer=[tensor(location)]))

    with pytest.raises(errors.UnsafePathError, match=r"model\.onnx reads weights from"):
        external_files(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"version https://git-lfs.github.com/spec/v1\n",
        b"<!doctype html>",
        b"\xff" * 40,
        graph(initializer=[tensor("w")])[:-3],
        graph(initializer=[tensor("")]),
        graph(initializer=[tensor("w", offset="many")]),
    ],
)
def test_a_file_that_is_not_a_graph_is_reported(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)

    with pytest.raises(errors.CorruptFileError, match="not a readable ONNX graph"):
        external_files(path)
