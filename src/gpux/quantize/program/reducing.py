"""Reduces the graphs of one variant, one after the other, each freed before the next."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from gpux.quantize.program.dynamic import quantize_dynamic
from gpux.quantize.program.graph_file import GraphFile
from gpux.quantize.program.weight_only import Plan, reduce_weights
from gpux.system.worker_protocol import Events, Refused

#: Below this share of a variant's float weights, a reduction is not what its name promises.
SMALLEST_SHARE = 0.25


def reduce_graphs(request: dict[str, Any], events: Events) -> dict[str, Any]:
    """Write every graph of the request to its output folder.

    ``recipe`` has ``kind``: ``float16``, ``dynamic`` or ``weights``, and that kind's own values.

    Raises:
        Refused: a file is damaged, or the recipe has nothing to reduce in these graphs.
    """
    source, output = Path(request["source"]), Path(request["output"])
    graphs: dict[str, str] = request["graphs"]
    reduced, total = 0, 0
    for name, file in graphs.items():
        events.send("progress", graph=name)
        part, whole = _reduce(source / file, output / file, dict(request["recipe"]))
        reduced, total = reduced + part, total + whole
    share = reduced / total if total else 0.0
    if share < SMALLEST_SHARE:
        raise Refused(
            "unsupported_architecture",
            f"only {share:.0%} of the weights lie in layers that this precision reduces",
            "Use fp16, or stay with fp32.",
        )
    return {"graphs": graphs, "share": share, "versions": _versions(), "peak_rss": _peak_rss()}


def _reduce(source: Path, output: Path, recipe: dict[str, Any]) -> tuple[int, int]:
    """Bytes of float weights that were reduced, and that there were."""
    output.parent.mkdir(parents=True, exist_ok=True)
    file = GraphFile(source, output)
    total = sum(_float_bytes(tensor) for scope in file.scopes for tensor in scope.graph.initializer)
    kind = recipe.pop("kind")
    if kind == "dynamic":
        reduced = quantize_dynamic(file, **recipe)
    elif kind == "weights":
        reduced = reduce_weights(file, Plan(**recipe))
    elif kind == "float16":
        from gpux.quantize.program.float16 import to_float16

        reduced = to_float16(file, **recipe)
    else:
        raise Refused("conversion", f"the quantizer knows no recipe {kind!r}")
    file.save()
    return reduced, total


def _float_bytes(tensor: TensorProto) -> int:
    return int(np.prod(tensor.dims, dtype=np.int64)) * 4 if tensor.data_type == TensorProto.FLOAT else 0


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), "onnx": onnx.__version__, "numpy": np.__version__}


def _peak_rss() -> int | None:
    """Bytes; None where the system does not tell."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
