"""Stored models whose graphs have the outputs of a case, whatever the picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx

from gpux.model.variant import StoredModel
from tests.pipelines.conftest import stored
from tests.pipelines.located.cases import NAMES, Case


def model_of(
    case: Case, folder: Path, inputs: dict[str, Any] | None = None, *, outputs: Any = None, processor: str | None = None
) -> StoredModel:
    """A stored model whose graph has the outputs of a case, whatever the picture."""
    (folder / "onnx").mkdir(parents=True)
    settings = {"image_processor_type": processor or case.processor, **(case.settings or {})}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps({"id2label": dict(enumerate(NAMES))}))
    float32 = onnx.TensorProto.FLOAT
    shapes = inputs or {"pixel_values": ["batch", 3, "height", "width"]}
    values = case.outputs() if outputs is None else outputs
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", [f"{name}.value"], [name]) for name in values],
        "located",
        [onnx.helper.make_tensor_value_info(name, float32, shape) for name, shape in shapes.items()],
        [onnx.helper.make_tensor_value_info(name, float32, value.shape) for name, value in values.items()],
        [onnx.numpy_helper.from_array(value, f"{name}.value") for name, value in values.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "onnx" / "model.onnx")
    return stored(folder, case.task)
