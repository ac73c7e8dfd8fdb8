"""Trying a graph at the sizes of some cases, since the names of its axes promise more than it keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.convert.worker.reference.cases import Arrays

#: As the parent's proof has it for float32.
TOLERANCE = 1e-4


def works(graph: Path, asked: list[tuple[Arrays, Arrays | None]]) -> list[bool]:
    """For each pair of inputs and the original's outputs, whether the graph takes the one and answers the other.

    Inputs without outputs are those that the original does not take: there the graph must not answer either.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # a size that fails is an answer here, not an error
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    return [_agrees(session, inputs, outputs) for inputs, outputs in asked]


def _agrees(session: Any, inputs: Arrays, outputs: Arrays | None) -> bool:
    try:
        found = session.run(None if outputs is None else list(outputs), inputs)
    except Exception:  # noqa: BLE001 - onnxruntime's own types, and each of them means that the size does not work
        return outputs is None
    if outputs is None:
        return False
    return all(_equal(actual, outputs[name]) for name, actual in zip(outputs, found, strict=True))


def _equal(actual: NDArray[Any], expected: NDArray[Any]) -> bool:
    if actual.shape != expected.shape:
        return False
    finite = np.isfinite(expected)
    scale = max(1.0, float(np.abs(expected[finite]).max(initial=0.0)))
    return bool(np.abs(actual[finite].astype(np.float64) - expected[finite]).max(initial=0.0) <= TOLERANCE * scale)
