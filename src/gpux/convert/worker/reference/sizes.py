"""The sizes that a graph of one call is run at: different from the traced ones, one kind of axis at a time.

The names of dynamic axes promise sizes that some graphs do not support, so each is tried in onnxruntime.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.convert.reference_case import Arrays
from gpux.convert.worker.common.graphs import Signature

#: Sizes of dynamic axes whose traced size is not known.
DEFAULTS = {"batch": 2, "channel": 3, "height": 64, "width": 64, "choices": 4, "point": 3}
LENGTH = 16
#: Largest number of audio frames: attention over as many as an exporter traces takes minutes.
FRAMES = 200


@dataclass(frozen=True)
class Variation:
    """One case: the sizes of the dynamic axes, and the kind of axis that differs from the traced sizes."""

    name: str
    sizes: dict[str, int]
    kind: str | None = None  #: ``batch``, ``size`` or ``length``; None: as traced
    padded: bool = False


def kind_of(symbol: str) -> str:
    """The kind of a dynamic axis, by its name: ``batch``, ``size``, ``channel`` or ``length``.

    Those of the kind ``channel`` are never varied; a number of patches is one that the processor pads to.
    """
    fixed = ("channel", "depth", "dim", "num_patches")
    for kind, words in (("batch", ("batch",)), ("size", ("height", "width")), ("channel", fixed)):
        if any(word in symbol for word in words):
            return kind
    return "length"


def traced_sizes(signature: Signature, examples: Arrays, config: Any) -> dict[str, int]:
    """Dynamic axis -> its traced size, or a default."""
    sizes: dict[str, int] = {}
    for symbol, places in signature.symbols().items():
        name, axis = places[0]
        example = examples.get(name)
        if example is not None and example.ndim == len(signature.inputs[name].shape):
            size = int(example.shape[axis])
            sizes[symbol] = min(size, FRAMES) if kind_of(symbol) == "length" and example.ndim == 3 else size
        else:
            sizes[symbol] = _default(symbol, axis, config)
    return sizes


def _default(symbol: str, axis: int, config: Any) -> int:
    if kind_of(symbol) == "size":
        size = getattr(getattr(config, "vision_config", config), "image_size", None) or DEFAULTS["height"]
        return int(size[axis - 2]) if isinstance(size, (list, tuple)) else int(size)
    return next((size for word, size in DEFAULTS.items() if word in symbol), LENGTH)


def variations(
    traced: Mapping[str, int], *, image: tuple[int, int] | None, longest: int | None, stride: int | None = None
) -> Iterator[Variation]:
    """Cases of a graph with other inputs than text.

    Args:
        traced: dynamic axis -> size.
        image: height and width of the preprocessor's images, if known.
        longest: largest number of tokens.
        stride: audio samples in one frame; models that join frames pad an odd number of them.
    """
    kinds = {symbol: kind_of(symbol) for symbol in traced}
    yield Variation("traced", dict(traced), padded=True)

    def changed(name: str, kind: str, change: Any, *, padded: bool = False) -> Variation:
        sizes = {symbol: change(symbol, size) if kinds[symbol] == kind else size for symbol, size in traced.items()}
        return Variation(name, sizes, kind, padded)

    if "batch" in kinds.values():
        yield changed("batch", "batch", lambda symbol, _: 4 if "text" in symbol else 3, padded=True)
        yield changed("single", "batch", lambda *_: 1)
    if "length" in kinds.values():
        most = longest or 10**9
        yield changed("short", "length", lambda _, size: max(1, min(size * 3 // 4 - 1, most)))
        yield changed("longer", "length", lambda _, size: min(size + size // 4 + 5, most), padded=True)
        for frame in (1, 2) if stride else ():
            yield changed(f"frame{frame}", "length", lambda _, size, frame=frame: size + frame * (stride or 0))
    if "size" in kinds.values():
        if image is not None:
            yield changed("image", "size", lambda symbol, _: image["width" in symbol])
        yield changed("larger", "size", lambda symbol, size: size + (64 if "width" in symbol else 32))
        yield changed("odd", "size", lambda symbol, size: size + (5 if "width" in symbol else 19))


def frame_stride(config: Any) -> int | None:
    """Audio samples in one frame, for models with convolutions over a waveform; None for others."""
    strides = getattr(config, "conv_stride", None)
    return math.prod(strides) if isinstance(strides, (list, tuple)) and strides else None


def image_size(described: Any) -> tuple[int, int] | None:
    """Height and width of the images of an OnnxConfig's preprocessor; None if it has none."""
    for processor in getattr(described, "_preprocessors", None) or []:
        one = getattr(processor, "image_processor", processor)
        size = (getattr(one, "do_center_crop", False) and getattr(one, "crop_size", None)) or getattr(one, "size", None)
        if isinstance(size, Mapping) and {"height", "width"} <= set(size):
            return int(size["height"]), int(size["width"])
        if isinstance(size, Mapping) and size.get("shortest_edge"):
            return int(size["shortest_edge"]), int(size["shortest_edge"])
    return None


#: As in the proof of float32.
TOLERANCE = 1e-4


def works(graph: Path, pairs: Sequence[tuple[Arrays, Arrays | None]]) -> list[bool]:
    """For each pair of inputs and the original's outputs, whether the graph has these outputs.

    None as outputs means that the original does not support the inputs: then the graph must fail too.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # failures are expected
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    return [_agrees(session, inputs, outputs) for inputs, outputs in pairs]


def _agrees(session: Any, inputs: Arrays, outputs: Arrays | None) -> bool:
    try:
        found = session.run(None if outputs is None else list(outputs), inputs)
    except Exception:  # noqa: BLE001 - any of onnxruntime's types means that the size does not work
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
