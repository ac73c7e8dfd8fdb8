"""Export without torch's serialization of weights: torch writes the graph, and the weights are streamed to the file.

torch copies every weight twice for each shape inference, into its own protobuf, into a string and into a second string,
and parses that again to look for functions: most of the time and memory of an export. Shapes do not depend on the
content of a weight, and torch does not need the content when it writes the graph.

The layout is protobuf's wire format with the field numbers of onnx.proto, as in :mod:`structure`.
"""

from __future__ import annotations

import contextlib
import gc
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import onnx
import torch
from onnx import external_data_helper
from torch import Tensor, nn

from gpux.convert.worker.common.structure import GRAPH, INITIALIZER, RAW_DATA, start_of
from gpux.convert.worker.optimum.weight_files import SMALLEST, external_file, transpose

#: Bytes of weights above which they are written to a file beside the graph: a protobuf holds 2 GB at most.
LIMIT = 2_000_000_000
#: Elements above which a floating-point value is a weight, and not a scale or bound that a shape may depend on.
LARGE = 1024

Weights = dict[str, Tensor]


def release(*models: nn.Module) -> None:
    """Free the weights of models that are no longer used, even if something still refers to the models."""
    for model in models:
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = torch.empty(0, dtype=tensor.dtype)
    gc.collect()


def tied_sizes(model: nn.Module) -> set[int]:
    """The numbers of elements of weights that the model uses under several names."""
    seen: dict[int, int] = defaultdict(int)
    sizes: dict[int, int] = {}
    for _, parameter in model.named_parameters(remove_duplicate=False):
        seen[parameter.data_ptr()] += 1
        sizes[parameter.data_ptr()] = parameter.numel()
    return {sizes[pointer] for pointer, uses in seen.items() if uses > 1 and sizes[pointer] >= SMALLEST}


@contextlib.contextmanager
def without_weights() -> Iterator[Weights]:
    """Within this block, ``torch.onnx.export`` writes graphs with their weights as inputs; the value receives these.

    Two functions of torch's TorchScript exporter are replaced: the serialization of the graph, and the shape inference,
    which does not receive large weights.
    """
    weights: Weights = {}
    serialize, infer = torch._C.Graph._export_onnx, torch._C._jit_pass_onnx_graph_shape_type_inference

    def serialize_alone(graph: Any, parameters: Mapping[str, Tensor], *options: Any) -> Any:
        weights.update(parameters)
        return serialize(graph, {}, *options)

    def infer_without(graph: Any, parameters: Mapping[str, Any], opset: int) -> Any:
        return infer(graph, {name: value for name, value in parameters.items() if not _is_large(value)}, opset)

    torch._C.Graph._export_onnx = serialize_alone
    torch._C._jit_pass_onnx_graph_shape_type_inference = infer_without
    try:
        yield weights
    finally:
        torch._C.Graph._export_onnx = serialize
        torch._C._jit_pass_onnx_graph_shape_type_inference = infer


def _is_large(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.numel() > LARGE


def attach(file: Path, weights: Weights, *, beside: bool = False) -> None:
    """Turn inputs of a graph into initializers, in the same file or, above 2 GB in all, in one beside it.

    A weight that the graph has also transposed, as a view of the same memory, is written once.

    Args:
        file: the graph that was exported within :func:`without_weights`.
        weights: the values of the inputs, from the same.
        beside: write a file beside it, whatever the size.
    """
    model = onnx.load(file, load_external_data=False)
    declared = {value.name: value.type.tensor_type.elem_type for value in model.graph.input if value.name in weights}
    own = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(own)
    turned = _turned({name: weights[name] for name in declared})
    for name, original in reversed(turned.items()):
        model.graph.node.insert(0, transpose(original, name))
    tensors = [
        (_header(name, kind, weights[name]), weights[name]) for name, kind in declared.items() if name not in turned
    ]
    if beside or model.ByteSize() + sum(weight.nbytes for _, weight in tensors) > LIMIT:
        _write_beside(model, tensors, file)
    else:
        _write_whole(model, tensors, file)


def _turned(weights: Weights) -> dict[str, str]:
    """Matrix -> the contiguous matrix of the same memory that it is the transposed view of."""
    places: dict[tuple[int, torch.dtype, tuple[int, ...]], str] = {}
    for name, weight in weights.items():
        if weight.dim() == 2 and weight.numel() >= SMALLEST and weight.is_contiguous():
            places.setdefault((weight.data_ptr(), weight.dtype, tuple(weight.shape)), name)
    columns = {name: weight for name, weight in weights.items() if weight.dim() == 2 and not weight.is_contiguous()}
    found = {
        name: places.get((weight.data_ptr(), weight.dtype, tuple(weight.T.shape)))
        for name, weight in columns.items()
        if weight.T.is_contiguous()
    }
    return {name: original for name, original in found.items() if original is not None}


def _header(name: str, element_type: int, weight: Tensor) -> onnx.TensorProto:
    return onnx.TensorProto(name=name, data_type=element_type, dims=weight.shape)


def _content(weight: Tensor) -> memoryview:
    """The bytes in row-major order; only a transposed view is copied."""
    return memoryview(weight.detach().contiguous().reshape(-1).view(torch.uint8).numpy())


def _write_whole(model: onnx.ModelProto, tensors: list[tuple[onnx.TensorProto, Tensor]], file: Path) -> None:
    starts = [_start(header, weight.nbytes) for header, weight in tensors]
    graph = model.graph.SerializeToString()
    size = len(graph) + sum(len(start) + weight.nbytes for start, (_, weight) in zip(starts, tensors, strict=True))
    model.ClearField("graph")
    with file.open("wb") as stream:
        stream.write(model.SerializeToString() + start_of(GRAPH, size) + graph)
        for start, (_, weight) in zip(starts, tensors, strict=True):
            stream.write(start)
            stream.write(_content(weight))


def _start(header: onnx.TensorProto, size: int) -> bytes:
    """The encoded initializer up to its content of ``size`` bytes, which follows."""
    fields: bytes = header.SerializeToString() + start_of(RAW_DATA, size)
    return start_of(INITIALIZER, len(fields) + size) + fields


def _write_beside(model: onnx.ModelProto, tensors: list[tuple[onnx.TensorProto, Tensor]], file: Path) -> None:
    outside = external_file(file)
    with outside.open("ab") as stream:
        for header, weight in tensors:
            if weight.nbytes < SMALLEST:
                header.raw_data = bytes(_content(weight))
            else:
                _append(header, weight, stream, outside.name)
            model.graph.initializer.append(header)
    onnx.save(model, file)


def _append(header: onnx.TensorProto, weight: Tensor, stream: BinaryIO, location: str) -> None:
    header.raw_data = b""  # set_external_data requires a value
    external_data_helper.set_external_data(header, location, stream.tell(), weight.nbytes)
    header.ClearField("raw_data")
    stream.write(_content(weight))
