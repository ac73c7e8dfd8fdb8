"""Depths of pictures, as ``transformers.pipeline("depth-estimation")`` of 4.57 answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gpux.model.variant import StoredModel
from gpux.pipelines.base import AnswerRow
from gpux.pipelines.options import CallOptions
from gpux.pipelines.vision.base import ImageOpenOptions, Images
from gpux.pipelines.vision.interpolation import bicubic
from gpux.pipelines.vision.locating import LocatingPipeline
from gpux.pipelines.vision.pictures import grey_png
from gpux.processors.image.load import ImageInput
from gpux.processors.image.processor import PreparedImage

_PADDED = "ZoeDepthImageProcessor"
_KNOWN = ("DPTImageProcessor", "GLPNImageProcessor", _PADDED)


class DepthEstimationOptions(CallOptions, total=False):
    """Options of depth-estimation."""


class DepthEstimationArguments(DepthEstimationOptions, ImageOpenOptions, total=False):
    """Keywords of :class:`DepthEstimationPipeline`."""


class DepthEstimationPipeline(LocatingPipeline):
    """The depth of each pixel, in the unit of the model: metres, or larger where nearer.

    >>> measure = DepthEstimationPipeline(model)
    >>> measure("room.jpg")["predicted_depth"].shape
    (480, 640)
    """

    task: ClassVar[str] = "depth-estimation"
    call_options: ClassVar[type] = DepthEstimationOptions
    outputs = ("predicted_depth",)

    def __init__(self, model: StoredModel, **arguments: Unpack[DepthEstimationArguments]) -> None:
        super().__init__(model, **arguments)
        self._check_model(_KNOWN, self.outputs)

    def __call__(self, inputs: Images, **options: Unpack[DepthEstimationOptions]) -> Any:
        """Depths.

        Args:
            inputs: a picture (path, bytes, PIL image or array), or several.
            options: see :class:`DepthEstimationOptions`.

        Returns:
            ``{"predicted_depth": float32 array [height, width], "depth": PIL image}``, and a list of such answers for
            several pictures. Both have the size of the picture; the image has mode L, black at the smallest number and
            white at the largest.

        Raises:
            InputError: an input cannot be read as a picture.
            UsageError: an unknown or invalid option.
        """
        return super().__call__(inputs, **options)

    def postprocess(self, prepared: PreparedImage, output: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        """Depths at the size of the picture, from those of the model [height, width]."""
        depth = output["predicted_depth"].astype(np.float32)
        depth = depth.reshape(depth.shape[-2:])
        if self.processor.class_name == _PADDED and self.processor.settings.get("do_pad", True):
            depth = _without_padding(depth, prepared.original)
        else:
            depth = bicubic(depth, prepared.original)
        return {"predicted_depth": depth, "depth": _grey(depth)}

    def to_json(self, answer: Any) -> Any:
        """The depths as nested lists, and the picture as a PNG file in base64."""
        return {"predicted_depth": answer["predicted_depth"].tolist(), "depth": grey_png(answer["depth"])}

    def render(self, answer: Any) -> list[AnswerRow]:
        """The size, the smallest and the largest depth."""
        depth = np.asarray(answer["predicted_depth"], dtype=np.float32)
        height, width = depth.shape
        return [AnswerRow(f"{width} x {height} depths from {depth.min():.4g} to {depth.max():.4g}")]

    def picture(self, inputs: ImageInput, answer: Any) -> Image.Image:
        """The depths of an answer as grey levels."""
        found: Image.Image = answer["depth"]
        return found


def _without_padding(depth: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """The depths within the borders that the image processor added, which it computes from the picture's size."""
    high, wide = (int(math.sqrt(side / 2) * 3) for side in size)
    padded = bicubic(depth, (size[0] + 2 * high, size[1] + 2 * wide))
    return padded[high : high + size[0], wide : wide + size[1]]


def _grey(depth: NDArray[np.float32]) -> Image.Image:
    low, high = depth.min(), depth.max()
    share = (depth - low) / (high - low) if high > low else np.zeros_like(depth)
    return Image.fromarray((share * 255).astype(np.uint8))
