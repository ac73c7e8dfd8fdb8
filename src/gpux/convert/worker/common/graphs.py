"""Exported graphs: their files, and the inputs and outputs that each declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from gpux.convert.worker.common.structure import read_structure
from gpux.system.files import write_atomic


@dataclass(frozen=True)
class Exported:
    """The graph files of a model, and how they were exported."""

    task: str  #: the exporter's name of the task, with ``-with-past`` if the graphs have a KV cache
    graphs: dict[str, Path]  #: ``model``, or one for each part: ``encoder``, ``decoder``, ``vision_encoder`` …
    model_class: type  #: the class of transformers that loads the original
    #: Optimum's OnnxConfig of the whole model; None if another exporter wrote the graphs
    config: Any = None
    #: Optimum's OnnxConfig of each part, by the names of ``graphs``; a merged decoder has that of its cached branch
    parts: dict[str, Any] = field(default_factory=dict)
    #: further arguments of the traced call, such as ``dataset_index`` or ``vocoder_model``
    model_kwargs: dict[str, Any] = field(default_factory=dict)
    #: traced sizes of graphs that are known to work at no other size: graph -> input -> axis -> size
    fixed: dict[str, dict[str, dict[int, int]]] = field(default_factory=dict)


#: An attention operator that has its table of rotary positions as an input. It supports neither left padding nor, in a
#: batch, several tokens after a cache.
FUSED_ATTENTION = "GroupQueryAttention"
#: The index of its input with the cosine table (onnxruntime, docs/ContribOperators.md).
COSINES = 7

Shape = tuple[int | str, ...]


@dataclass(frozen=True)
class Tensor:
    """A declared input or output; the size of a dynamic axis is its name."""

    name: str
    dtype: np.dtype[Any]
    shape: Shape


@dataclass(frozen=True)
class Signature:
    """The declared inputs and outputs of a graph."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    fused_attention: bool = False  #: see :data:`FUSED_ATTENTION`
    rotations: int | None = None  #: rows of the table of rotary positions: the largest number of tokens
    optional: frozenset[str] = frozenset()  #: inputs with a default, which are not in ``inputs``

    def symbols(self) -> dict[str, list[tuple[str, int]]]:
        """Name of a dynamic axis -> every (input, axis) with this name."""
        found: dict[str, list[tuple[str, int]]] = {}
        for tensor in self.inputs.values():
            for axis, size in enumerate(tensor.shape):
                if isinstance(size, str):
                    found.setdefault(size, []).append((tensor.name, axis))
        return found


def read_signature(file: Path) -> Signature:
    """The inputs and outputs of an ONNX file; external data is not read."""
    graph = read_structure(file).graph
    fused = [node for node in graph.node if node.op_type == FUSED_ATTENTION]
    tables = {node.input[COSINES] for node in fused if len(node.input) > COSINES and node.input[COSINES]}
    rows = [int(weight.dims[0]) for weight in graph.initializer if weight.name in tables]
    weights = {weight.name for weight in graph.initializer}
    return Signature(
        {value.name: _tensor(value) for value in graph.input if value.name not in weights},
        {value.name: _tensor(value) for value in graph.output},
        bool(fused),
        min(rows, default=None),
        frozenset(value.name for value in graph.input if value.name in weights),
    )


def _tensor(value: Any) -> Tensor:
    kind = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    sizes = [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"{value.name}.{axis}"
        for axis, dim in enumerate(kind.shape.dim)
    ]
    return Tensor(value.name, np.dtype(dtype), tuple(sizes))


def resolve(shape: Shape, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape with its dynamic axes at these sizes.

    Raises:
        KeyError: a dynamic axis has no size.
    """
    return tuple(sizes[size] if isinstance(size, str) else size for size in shape)


def fix_axes(file: Path, sizes: Mapping[str, Mapping[int, int]]) -> None:
    """Declare axes of inputs as fixed: input -> axis -> size. External data stays where it is."""
    model = onnx.load(file, load_external_data=False)
    for value in model.graph.input:
        for axis, size in sizes.get(value.name, {}).items():
            value.type.tensor_type.shape.dim[axis].dim_value = size
    write_atomic(file, model.SerializeToString())
