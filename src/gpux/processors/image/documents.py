"""Classes for pages of text: Donut, Nougat, Pix2Struct."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gpux.errors import InputError, UnsupportedError
from gpux.processors.image import pixels, resampling, sizes
from gpux.processors.image.prepared import PreparedImage
from gpux.processors.image.standard import StandardProcessor


class PageProcessor(StandardProcessor):
    """Donut: the page fits into ``size``, upright or turned with its long side, in the middle of black."""

    def shaped(self, image: Image.Image) -> NDArray[np.uint8]:
        """Pixels [height, width, 3] of ``size``."""
        settings = self.settings
        height, width = sizes.fixed(settings, image.height, image.width)
        if settings.get("do_align_long_axis") and (
            (width < height and image.width > image.height) or (width > height and image.width < image.height)
        ):
            image = image.transpose(Image.Transpose.ROTATE_270)
        if settings.get("do_resize"):
            target = sizes.shortest_edge(min(height, width), image.height, image.width)
            image = pixels.resize(image, *target, settings.get("resample"))
        if settings.get("do_thumbnail"):
            image = self._fitted(image, height, width)
        found = np.asarray(image)
        return self._padded(found, height, width) if settings.get("do_pad") else found

    @staticmethod
    def _fitted(image: Image.Image, height: int, width: int) -> Image.Image:
        tall, wide = min(image.height, height), min(image.width, width)
        if (tall, wide) == (image.height, image.width):
            return image
        if image.height > image.width:
            wide = int(image.width * tall / image.height)
        elif image.width > image.height:
            tall = int(image.height * wide / image.width)
        return pixels.resize(image, tall, wide, Image.Resampling.BICUBIC, reducing_gap=2.0)

    @staticmethod
    def _padded(found: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
        more = (height - found.shape[0], width - found.shape[1])
        if min(more) < 0:
            raise InputError(f"a page of {found.shape[1]} x {found.shape[0]} does not fit {width} x {height}")
        return np.pad(found, [*((extra // 2, extra - extra // 2) for extra in more), (0, 0)])


class ScanProcessor(PageProcessor):
    """Nougat: margins are cut off first."""

    def shaped(self, image: Image.Image) -> NDArray[np.uint8]:
        """Pixels [height, width, 3] of ``size``."""
        return super().shaped(_without_margins(image) if self.settings.get("do_crop_margin") else image)


def _without_margins(image: Image.Image, threshold: int = 200) -> Image.Image:
    """The part within which pixels are darker than a threshold, of the picture's own range of grey."""
    grey = np.asarray(image.convert("L"))
    low, high = grey.min(), grey.max()
    if low == high:
        return image
    dark = (grey - low) / (high - low) * 255 < threshold
    rows, columns = np.nonzero(dark.any(axis=1))[0], np.nonzero(dark.any(axis=0))[0]
    return image.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))


class FlattenedPatchProcessor:
    """Pix2Struct: patches as rows [row, column, pixels], as many as ``max_patches`` allows."""

    def __init__(self, class_name: str, settings: Mapping[str, Any]) -> None:
        if settings.get("is_vqa"):
            raise UnsupportedError(
                "the image processor Pix2StructImageProcessor draws the question into the picture (is_vqa), with a "
                "font that gpux does not have",
                hint="Draw the question above the picture yourself, and set is_vqa to false.",
            )
        self.class_name = class_name
        self.settings = settings

    def __call__(self, image: Image.Image) -> PreparedImage:
        """``flattened_patches`` float32 [max_patches, 2 + pixels] and ``attention_mask`` float32 [max_patches]."""
        settings = self.settings
        values = np.array(image)
        if settings.get("do_normalize"):
            values = values.astype(np.float32)
            deviation = max(np.std(values), 1.0 / math.sqrt(np.prod(values.shape)))
            values = pixels.normalize(values, float(np.mean(values)), float(deviation))
        most, size = settings["max_patches"], settings["patch_size"]
        high, wide = size["height"], size["width"]
        scale = math.sqrt(most * (high / image.height) * (wide / image.width))
        rows = max(min(math.floor(scale * image.height / high), most), 1)
        columns = max(min(math.floor(scale * image.width / wide), most), 1)
        pixels.check_size(image, rows * high, columns * wide)
        channels = values.transpose(2, 0, 1).astype(np.float32)
        resized = resampling.antialiased_resize(channels, rows * high, columns * wide)
        parts = resized.reshape(3, rows, high, columns, wide).transpose(1, 3, 2, 4, 0).reshape(rows * columns, -1)
        found = np.zeros((most, 2 + parts.shape[1]), np.float32)
        found[: rows * columns, 0] = np.repeat(np.arange(1, rows + 1), columns)
        found[: rows * columns, 1] = np.tile(np.arange(1, columns + 1), rows)
        found[: rows * columns, 2:] = parts
        mask = (found.sum(axis=-1) != 0).astype(np.float32)
        inputs = {"flattened_patches": found, "attention_mask": mask} | self.counts(rows, columns)
        return PreparedImage(inputs, (image.height, image.width))

    def counts(self, rows: int, columns: int) -> dict[str, NDArray[Any]]:
        """Further inputs, from the count of rows and columns."""
        return {}


class CountedPatchProcessor(FlattenedPatchProcessor):
    """KOSMOS-2.5: the same, with ``rows``, ``cols``, and ``width`` and ``height`` after resizing."""

    def counts(self, rows: int, columns: int) -> dict[str, NDArray[Any]]:
        """Further inputs, from the count of rows and columns."""
        size = self.settings["patch_size"]
        return {
            "width": np.array(columns * size["width"]),
            "height": np.array(rows * size["height"]),
            "rows": np.array(rows),
            "cols": np.array(columns),
        }
