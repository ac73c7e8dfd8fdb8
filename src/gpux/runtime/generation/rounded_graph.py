"""The graph that scores all tokens with a head in 8 bits: rounding, one exact product of whole numbers, scales.

unit = max |columns * hidden| / 63        x = columns * hidden / unit
first = round(x)                          second = round(126 (x - first))
near = scales * (first + second / 126) @ matrix           length = |x|
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

LEVELS = 63  #: of each number, on each side of 0
SECOND = 2 * LEVELS  #: how much finer the second number is
_ZERO = LEVELS + 1


def graph_of(matrix: NDArray[np.int8], scales: NDArray[np.float32], columns: NDArray[np.float32]) -> bytes:
    """The graph: ``hidden`` float32 ``[rows, size]`` to ``near`` ``[rows, vocabulary]``, ``unit``, ``length``.

    Both numbers of all rows go through one product, ``[2 rows, size]``, which reads the matrix once.

    Args:
        matrix: ``[size, vocabulary]``.
        scales: ``[vocabulary]``.
        columns: ``[size]``.
    """
    size, words = matrix.shape
    weights: dict[str, NDArray[Any]] = {
        "scales": scales,
        "columns": columns,
        "axis": np.array([1], np.int64),
        "levels": np.array(1 / LEVELS, np.float32),
        "least": np.array(1e-30, np.float32),
        "finer": np.array(SECOND, np.float32),
        "coarser": np.array(1 / SECOND, np.float32),
        "middle": np.array(_ZERO, np.float32),
        "one": np.array(1, np.float32),
        "zero": np.array(_ZERO, np.uint8),
    }
    outputs = {"near": words, "unit": 1, "length": 1}
    graph = helper.make_graph(
        [*_rounding(), *_product()],
        "head",
        [_spec("hidden", size)],
        [_spec(name, count) for name, count in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, ir_version=8, opset_imports=opsets)
    # Onnx's helpers would copy the matrix once each.
    weight = model.graph.initializer.add(name="matrix", data_type=TensorProto.INT8, dims=matrix.shape)
    weight.raw_data = matrix.tobytes()
    return bytes(model.SerializeToString())


def _rounding() -> list[onnx.NodeProto]:
    node = helper.make_node
    return [
        node("Mul", ["hidden", "columns"], ["scaled"]),
        node("Abs", ["scaled"], ["sizes"]),
        node("ReduceMax", ["sizes", "axis"], ["largest"], keepdims=1),
        node("Mul", ["largest", "levels"], ["share"]),
        node("Max", ["share", "least"], ["unit"]),
        node("Div", ["scaled", "unit"], ["x"]),
        node("ReduceL2", ["x", "axis"], ["length"], keepdims=1),
        node("Round", ["x"], ["first"]),
        node("Sub", ["x", "first"], ["rest"]),
        node("Mul", ["rest", "finer"], ["rest_finer"]),
        node("Round", ["rest_finer"], ["second"]),
    ]


def _product() -> list[onnx.NodeProto]:
    node = helper.make_node
    factors = ["numbers", "matrix", "one", "scales", "zero"]
    return [
        node("Concat", ["first", "second"], ["both"], axis=0),
        node("Add", ["both", "middle"], ["above"]),
        node("Cast", ["above"], ["numbers"], to=TensorProto.UINT8),
        node("MatMulIntegerToFloat", factors, ["products"], domain="com.microsoft"),
        node("Split", ["products"], ["of_first", "of_second"], axis=0, num_outputs=2),
        node("Mul", ["of_second", "coarser"], ["of_rest"]),
        node("Add", ["of_first", "of_rest"], ["near"]),
    ]


def _spec(name: str, columns: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", columns])
