"""Tests on an execution provider besides the CPU's: OpenVINO, which runs on any x86 processor.

Its package replaces onnxruntime, so these tests need a separate environment: ``./dev devices``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gpux.runtime.onnx_runtime import available_providers
from tests.models.bert import bert_repository

OPENVINO = "OpenVINOExecutionProvider"
WIDTH = 64


@pytest.fixture(autouse=True)
def _openvino() -> None:
    if OPENVINO not in available_providers():
        pytest.skip("onnxruntime-openvino is not installed: run `./dev devices`")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph that OpenVINO runs as a whole."""
    folder = tmp_path_factory.mktemp("bert")
    return bert_repository(folder, "feature-extraction", onnx=True) / "onnx" / "model.onnx"


Write = Callable[..., Path]


@pytest.fixture
def scaled(tmp_path: Path) -> Write:
    """Writes ``y = x @ weight * factor``, where ``factor`` is an input with the default 2; and maybe an IsNaN node."""

    def write(*, not_on_openvino: bool = False, external_data: bool = False) -> Path:
        weight = np.random.default_rng(0).standard_normal((WIDTH, WIDTH)).astype(np.float32)
        nodes = [
            helper.make_node("MatMul", ["x", "weight"], ["product"]),
            helper.make_node("Mul", ["product", "factor"], ["y"]),
        ]
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", WIDTH])]
        if not_on_openvino:
            nodes.append(helper.make_node("IsNaN", ["y"], ["bad"]))
            outputs.append(helper.make_tensor_value_info("bad", TensorProto.BOOL, ["rows", WIDTH]))
        graph = helper.make_graph(
            nodes,
            "scaled",
            [
                helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", WIDTH]),
                helper.make_tensor_value_info("factor", TensorProto.FLOAT, [1]),
            ],
            outputs,
            [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.array([2], np.float32), "factor")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        options = {"save_as_external_data": True, "location": "scaled.data", "size_threshold": 1024}
        onnx.save(model, tmp_path / "scaled.onnx", **(options if external_data else {}))
        return tmp_path / "scaled.onnx"

    return write
