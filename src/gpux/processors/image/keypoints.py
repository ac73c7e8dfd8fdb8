"""Classes whose models find points: SuperPoint and those that match its points in grey, ViTPose on boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gpux.errors import InputError
from gpux.processors.image import pixels, resampling, sizes
from gpux.processors.image.prepared import PreparedImage
from gpux.processors.image.standard import StandardProcessor


class GreyProcessor(StandardProcessor):
    """SuperPoint, SuperGlue, LightGlue, EfficientLoFTR: the three channels are one grey where ``do_grayscale`` is on.

    Models that match two pictures take both from :meth:`together`.
    """

    def compute(self, levels: NDArray[Any]) -> NDArray[Any]:
        """Values of pixels [..., 3]."""
        return pixels.rescale(levels, self.settings["rescale_factor"]) if self.settings.get("do_rescale") else levels

    def prepared(self, values: NDArray[Any], image: Image.Image) -> PreparedImage:
        """The inputs of a graph, from pixel values."""
        red, green, blue = values
        if self.settings.get("do_grayscale") and not (np.array_equal(red, green) and np.array_equal(green, blue)):
            values = np.stack([red * 0.2989 + green * 0.587 + blue * 0.114] * 3)
        return super().prepared(values, image)


class PoseProcessor(StandardProcessor):
    """ViTPose: a box of a picture, with a margin, warped to ``size``."""

    def __call__(self, image: Image.Image) -> PreparedImage:
        """The whole picture as one box."""
        return self.boxes(image, [(0.0, 0.0, float(image.width), float(image.height))])[0]

    def boxes(self, image: Image.Image, boxes: Sequence[Sequence[float]]) -> list[PreparedImage]:
        """One input for each box (left, top, width, height), in pixels.

        Raises:
            InputError: a box is empty.
        """
        found = np.asarray(image)
        prepared = []
        for box in boxes:
            if len(box) < 4 or not (box[2] > 0 and box[3] > 0):
                raise InputError(f"the box {list(box)} is not left, top, width and height in pixels")
            part = self._warped(found, box) if self.settings.get("do_affine_transform") else found
            prepared.append(PreparedImage({"pixel_values": self.values.apply(part)}, (image.height, image.width)))
        return prepared

    def center_and_scale(self, box: Sequence[float]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The centre (x, y) of a box in pixels, and its width and height with the margin, in units of 200 pixels."""
        height, width = sizes.fixed(self.settings, 0, 0)
        ratio, unit = width / height, 200.0
        left, top, wide, tall = box[:4]
        center = np.array([left + wide * 0.5, top + tall * 0.5], dtype=np.float32)
        if wide > ratio * tall:
            tall = wide * 1.0 / ratio
        elif wide < ratio * tall:
            wide = tall * ratio
        return center, np.array([wide / unit, tall / unit], dtype=np.float32) * 1.25

    def _warped(self, found: NDArray[np.uint8], box: Sequence[float]) -> NDArray[np.uint8]:
        height, width = sizes.fixed(self.settings, 0, 0)
        center, scale = self.center_and_scale(box)
        source, target = center * 2.0, scale * 200.0
        factors = [side / whole for side, whole in zip(np.array((width, height)) - 1.0, target, strict=True)]
        matrix = np.zeros((2, 3), dtype=np.float32)
        for axis, factor in enumerate(factors):
            matrix[axis, axis] = math.cos(0.0) * factor
            matrix[axis, 2] = factor * (-0.5 * source[axis] + 0.5 * target[axis])
        inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
        by_rows = inverse[[1, 0]][:, [1, 0, 2]]  # rows before columns
        return resampling.affine_warp(found, by_rows, height, width)
