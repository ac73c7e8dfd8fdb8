"""Classes that cut a picture of any aspect ratio into patches: SigLIP 2, Pixtral, Qwen2-VL."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from gpux.errors import InputError
from gpux.processors.image import pixels, sizes
from gpux.processors.image.prepared import PreparedImage
from gpux.processors.image.sizes import Size
from gpux.processors.image.standard import StandardProcessor


class PatchProcessor(StandardProcessor):
    """SigLIP 2: ``pixel_values`` float32 [max_num_patches, pixels of a patch], a mask, and rows and columns."""

    def check(self) -> None:
        """Require the counts of pixels and patches."""
        int(self.settings["patch_size"] * self.settings["max_num_patches"])

    def __call__(self, image: Image.Image) -> PreparedImage:
        """Prepare an RGB picture."""
        side, most = self.settings["patch_size"], self.settings["max_num_patches"]
        picture = image
        if self.settings.get("do_resize"):
            height, width = _most_patches(image.height, image.width, side, most)
            picture = pixels.resize(image, height, width, self.settings.get("resample"))
        values = self.values.apply(np.asarray(picture)).transpose(1, 2, 0)
        rows, columns = picture.height // side, picture.width // side
        parts = values.reshape(rows, side, columns, side, 3).transpose(0, 2, 1, 3, 4).reshape(rows * columns, -1)
        found = np.zeros((max(most, len(parts)), parts.shape[1]), parts.dtype)
        found[: len(parts)] = parts
        mask = np.zeros(len(found), np.int32)
        mask[: len(parts)] = 1
        inputs = {"pixel_values": found, "pixel_attention_mask": mask, "spatial_shapes": np.array([rows, columns])}
        return PreparedImage(inputs, (image.height, image.width), resized=(picture.height, picture.width))


def _most_patches(height: int, width: int, side: int, most: int, tolerance: float = 1e-5) -> Size:
    """The largest size of about the same aspect ratio that ``most`` patches fill, found by halving an interval."""

    def scaled(scale: float, size: int) -> int:
        return max(side, math.ceil(size * scale / side) * side)

    low, high = tolerance / 10, 100.0
    while high - low >= tolerance:
        middle = (low + high) / 2
        if (scaled(middle, height) / side) * (scaled(middle, width) / side) <= most:
            low = middle
        else:
            high = middle
    return scaled(low, height), scaled(low, width)


def pixtral(settings: Mapping[str, Any], height: int, width: int) -> Size:
    """Within ``longest_edge`` on both sides, then up to whole patches."""
    size, patch = settings["size"], settings["patch_size"]
    edge = size.get("longest_edge")
    most = (size["height"], size["width"]) if edge is None else (edge, edge)
    patch = patch if isinstance(patch, Mapping) else {"height": patch, "width": patch}
    ratio = max(height / most[0], width / most[1])
    if ratio > 1:
        height, width = math.floor(height / ratio), math.floor(width / ratio)
    return (
        ((height - 1) // patch["height"] + 1) * patch["height"],
        ((width - 1) // patch["width"] + 1) * patch["width"],
    )


class GridProcessor(StandardProcessor):
    """Qwen2-VL: patches in the order of merged groups, of two equal frames.

    ``pixel_values`` float32 [patches, pixels of a patch in all frames] has no batch axis: the patches of several
    pictures follow each other. ``image_grid_thw`` int64 [3] counts frames, rows and columns.
    """

    def check(self) -> None:
        """Require the least and the greatest count of pixels."""
        sizes.need(self.settings["size"], "shortest_edge", "longest_edge")

    def __call__(self, image: Image.Image) -> PreparedImage:
        """Prepare an RGB picture."""
        settings = self.settings
        side, merged, frames = settings["patch_size"], settings["merge_size"], settings["temporal_patch_size"]
        picture = image
        if settings.get("do_resize"):
            height, width = self._size(image, side * merged)
            picture = pixels.resize(image, height, width, settings.get("resample"))
        values = self.values.apply(np.asarray(picture))
        rows, columns = picture.height // side, picture.width // side
        stacked = np.broadcast_to(values, (frames, *values.shape))
        cut = stacked.reshape(1, frames, 3, rows // merged, merged, side, columns // merged, merged, side)
        found = cut.transpose(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(rows * columns, -1)
        inputs = {"pixel_values": found, "image_grid_thw": np.array([1, rows, columns])}
        return PreparedImage(inputs, (image.height, image.width), resized=(picture.height, picture.width))

    frames = False  #: whether the frames count in the least and the greatest number of pixels

    def _size(self, image: Image.Image, factor: int) -> Size:
        least, most = self.settings["size"]["shortest_edge"], self.settings["size"]["longest_edge"]
        height, width = image.height, image.width
        if self.frames:
            count = self.settings["temporal_patch_size"]
            least, most = least / count, most / count
            if min(height, width) < factor:
                raise InputError(f"a picture of {width} x {height} is smaller than {factor} pixels")
        if max(height, width) / min(height, width) > 200:
            raise InputError(f"a picture of {width} x {height} is more than 200 times as long as it is wide")
        tall, wide = round(height / factor) * factor, round(width / factor) * factor
        if tall * wide > most:
            beta = math.sqrt(height * width / most)
            return (
                max(factor, math.floor(height / beta / factor) * factor),
                max(factor, math.floor(width / beta / factor) * factor),
            )
        if tall * wide < least:
            beta = math.sqrt(least / (height * width))
            return math.ceil(height * beta / factor) * factor, math.ceil(width * beta / factor) * factor
        return tall, wide


class FrameGridProcessor(GridProcessor):
    """GLM-4V: as Qwen2-VL, with limits on the pixels of all frames."""

    frames = True
