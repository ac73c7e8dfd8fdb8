"""Inputs with a default value, for execution providers that read the default as a constant.

In ONNX an initializer with the name of an input is the input's default, which a caller may override. OpenVINO's
execution provider (onnxruntime-openvino 1.24) computes with the default whatever the caller gives. For such execution
providers the default is removed from the graph in memory, and the session passes it to each run instead.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

#: Execution providers that ignore the value given for an input with a default.
IGNORE_GIVEN_VALUES = frozenset({"OpenVINOExecutionProvider"})
#: Larger defaults are left in the graph: they are weights that an old exporter lists among the inputs.
LARGEST_BYTES = 1024


def split_defaults(path: Path) -> tuple[bytes | None, dict[str, NDArray[Any]]]:
    """An ONNX model without the small defaults of its inputs, and these defaults; None for a model without any.

    The external data of the model is neither read nor moved. None for a file that cannot be read, too: onnxruntime
    reports the reason.
    """
    import onnx  # slow to import, and needed for few graphs
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError):
        return None, {}
    names = {value.name for value in model.graph.input}
    defaults = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.name in names and not tensor.external_data and tensor.ByteSize() <= LARGEST_BYTES
    }
    if not defaults:
        return None, {}
    for index in reversed(range(len(model.graph.initializer))):
        if model.graph.initializer[index].name in defaults:
            del model.graph.initializer[index]
    return model.SerializeToString(), defaults
