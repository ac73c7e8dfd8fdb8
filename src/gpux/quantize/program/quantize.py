"""Quantizes the graphs of one variant, one after the other; each graph's memory is freed before the next."""

from __future__ import annotations

import platform
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from gpux.quantize.program.blocks import BlockOptions, quantize_blocks
from gpux.quantize.program.dynamic import quantize_dynamic
from gpux.quantize.program.float16 import convert_float16
from gpux.quantize.program.graph_file import GraphFile
from gpux.system.worker_protocol import Events, Refused

#: Below this share of quantized float weights, the result would not be what the precision's name promises.
SMALLEST_SHARE = 0.25


def quantize_graphs(request: dict[str, Any], events: Events) -> dict[str, Any]:
    """Write every graph of the request to its output folder.

    The request's ``method`` has a ``kind`` and the parameters of that kind: ``float16`` (none), ``dynamic``
    (those of :func:`quantize_dynamic`), ``blocks`` (those of :class:`BlockOptions`).

    Raises:
        Refused: a file is damaged, or too few weights are in layers that the method quantizes.
    """
    source, output = Path(request["source"]), Path(request["output"])
    graphs: dict[str, str] = request["graphs"]
    quantized, total = 0, 0
    files: set[str] = set()
    for name, file in graphs.items():
        (output / file).parent.mkdir(parents=True, exist_ok=True)
        events.send("progress", graph=name)
        graph = GraphFile(source / file, output / file)
        part, whole = _quantize(graph, dict(request["method"]))
        quantized, total = quantized + part, total + whole
        files |= {file, *(str(PurePosixPath(file).parent / name) for name in graph.data_files)}
    share = quantized / total if total else 0.0
    if share < SMALLEST_SHARE:
        raise Refused(
            "unsupported_architecture",
            f"only {share:.0%} of the weights are in layers that this precision quantizes",
            "Use fp16, or keep fp32.",
        )
    versions = {"python": platform.python_version(), "onnx": onnx.__version__, "numpy": np.__version__}
    return {
        "graphs": graphs,
        "source_files": sorted(files),
        "share": share,
        "versions": versions,
        "peak_rss": _peak_rss(),
    }


def _quantize(file: GraphFile, method: dict[str, Any]) -> tuple[int, int]:
    """Write one graph; returns the bytes of its float weights that were quantized, and the bytes of all."""
    total = sum(_float_bytes(tensor) for scope in file.scopes for tensor in scope.graph.initializer)
    kind = method.pop("kind")
    if kind == "dynamic":
        quantized = quantize_dynamic(file, **method)
    elif kind == "blocks":
        quantized = quantize_blocks(file, BlockOptions(**method))
    elif kind == "float16":
        quantized = convert_float16(file)
    else:
        raise Refused("conversion", f"the quantizer has no method {kind!r}")
    file.save()
    return quantized, total


def _float_bytes(tensor: TensorProto) -> int:
    return int(np.prod(tensor.dims, dtype=np.int64)) * 4 if tensor.data_type == TensorProto.FLOAT else 0


def _peak_rss() -> int | None:
    """Bytes; None on Windows, where Python cannot read the peak."""
    if sys.platform == "win32":
        return None
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
