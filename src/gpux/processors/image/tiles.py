"""Classes that cut one picture into several of a fixed size, for models that read text with pictures.

Inputs have an axis of parts in front: ``pixel_values`` float32 [parts, 3, height, width], in the order of each class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gpux.processors.image import pixels, sizes
from gpux.processors.image.prepared import PreparedImage
from gpux.processors.image.standard import StandardProcessor


class TileProcessor(StandardProcessor):
    """A picture as parts of one size."""

    def __call__(self, image: Image.Image) -> PreparedImage:
        """Prepare an RGB picture."""
        return self.joined(self.parts(image), image)

    def parts(self, image: Image.Image) -> list[Image.Image]:
        """The parts of a picture, resized."""
        raise NotImplementedError

    def joined(self, parts: Sequence[Image.Image], image: Image.Image) -> PreparedImage:
        """The inputs of a graph, from the parts."""
        values = np.stack([self.values.apply(np.asarray(part)) for part in parts])
        return PreparedImage({"pixel_values": values}, (image.height, image.width))


class SplittingProcessor(TileProcessor):
    """Idefics 3 and SmolVLM: rows of tiles of ``max_image_size``, then the whole picture; ``pixel_attention_mask``."""

    def check(self) -> None:
        """Require the edge of a tile, and the size of the whole."""
        sizes.need(self.settings["max_image_size"], "longest_edge")
        if self.settings.get("do_resize"):
            self._whole(480, 640)

    def parts(self, image: Image.Image) -> list[Image.Image]:
        """Tiles row by row, and the whole picture as a tile."""
        edge, resample = self.settings["max_image_size"]["longest_edge"], self.settings.get("resample")
        if self.settings.get("do_resize"):
            image = pixels.resize(image, *self._whole(image.height, image.width), resample)
        if not self.settings.get("do_image_splitting"):
            return [pixels.resize(image, edge, edge, resample)]
        image = pixels.resize(image, *_multiples(edge, image.height, image.width), resample)
        if image.height <= edge and image.width <= edge:
            return [image]
        rows, columns = math.ceil(image.height / edge), math.ceil(image.width / edge)
        tall, wide = math.ceil(image.height / rows), math.ceil(image.width / columns)
        found = [
            image.crop((x * wide, y * tall, min((x + 1) * wide, image.width), min((y + 1) * tall, image.height)))
            for y in range(rows)
            for x in range(columns)
        ]
        return [*found, pixels.resize(image, edge, edge, resample)]

    def joined(self, parts: Sequence[Image.Image], image: Image.Image) -> PreparedImage:
        """The inputs of a graph, from the parts."""
        prepared = super().joined(parts, image)
        values = prepared.inputs["pixel_values"]
        if not self.settings.get("do_pad"):
            return prepared
        mask = np.ones((len(values), *values.shape[2:]), np.int64)
        return PreparedImage({"pixel_values": values, "pixel_attention_mask": mask}, prepared.original)

    def _whole(self, height: int, width: int, most: int = 4096) -> sizes.Size:
        size = self.settings["size"]
        if "longest_edge" not in size:
            return sizes.fixed(self.settings, height, width)
        edge, ratio = size["longest_edge"], width / height
        if width >= height:
            width, height = edge, int(edge / ratio)
            height += height % 2
        else:
            height, width = edge, int(edge * ratio)
            width += width % 2
        height, width = max(height, 1), max(width, 1)
        ratio = width / height
        if width >= height and width > most:
            width, height = most, int(most / ratio)
        elif height > width and height > most:
            height, width = most, int(most * ratio)
        return max(height, 1), max(width, 1)


def _multiples(edge: int, height: int, width: int) -> sizes.Size:
    """Multiples of an edge above a size, of about its aspect ratio."""
    ratio = width / height
    if width >= height:
        width = math.ceil(width / edge) * edge
        return math.ceil(int(width / ratio) / edge) * edge, width
    height = math.ceil(height / edge) * edge
    return height, math.ceil(int(height * ratio) / edge) * edge


class QuarterProcessor(TileProcessor):
    """Idefics 2: the picture, after its four quarters where ``do_image_splitting`` is on; ``pixel_attention_mask``."""

    def check(self) -> None:
        """Use the size once."""
        if self.settings.get("do_resize"):
            self._target(480, 640)

    def __call__(self, image: Image.Image) -> PreparedImage:
        """Prepare an RGB picture."""
        found = [self.values.apply(np.asarray(part)) for part in self.parts(image)]
        height, width = (max(part.shape[axis] for part in found) for axis in (1, 2))
        values = np.stack([pixels.pad_after(part, height, width) for part in found])
        inputs: dict[str, NDArray[Any]] = {"pixel_values": values}
        if self.settings.get("do_pad"):
            inputs["pixel_attention_mask"] = np.zeros((len(found), height, width), np.int64)
            for place, part in enumerate(found):
                inputs["pixel_attention_mask"][place, : part.shape[1], : part.shape[2]] = 1
        return PreparedImage(inputs, (image.height, image.width))

    def parts(self, image: Image.Image) -> list[Image.Image]:
        """The quarters and the whole."""
        found = [image]
        if self.settings.get("do_image_splitting"):
            x, y, right, bottom = image.width // 2, image.height // 2, image.width, image.height
            boxes = ((0, 0, x, y), (x, 0, right, y), (0, y, x, bottom), (x, y, right, bottom))
            found = [*(image.crop(box) for box in boxes), image]
        if not self.settings.get("do_resize"):
            return found
        return [pixels.resize(p, *self._target(p.height, p.width), self.settings.get("resample")) for p in found]

    def _target(self, height: int, width: int) -> sizes.Size:
        size = self.settings["size"]
        if not ("shortest_edge" in size and "longest_edge" in size):
            return sizes.fixed(self.settings, height, width)
        least, most, ratio = size["shortest_edge"], size["longest_edge"], width / max(height, 1)
        if width >= height and width > most:
            width, height = most, int(most / ratio)
        elif height > width and height > most:
            height, width = most, int(most * ratio)
        return max(height, least), max(width, least)


class PinpointProcessor(TileProcessor):
    """LLaVA-NeXT and LLaVA-OneVision: the whole picture, then tiles of the best of ``image_grid_pinpoints``."""

    def __init__(self, class_name: str, settings: Mapping[str, Any]) -> None:
        super().__init__(class_name, settings, sizes.shortest_or_fixed)

    def parts(self, image: Image.Image) -> list[Image.Image]:
        """The whole as a tile, then tiles row by row with black around the picture."""
        settings, size, resample = self.settings, self.settings["size"], self.settings.get("resample")
        edge = size.get("shortest_edge")
        least = (edge, edge) if edge else (int(size["height"]), int(size["width"]))
        whole = least if "crop_size" not in settings else (min(least), min(least))
        side = int(settings["crop_size"]["height"]) if "crop_size" in settings else whole[0]
        height, width = _best(image.height, image.width, settings["image_grid_pinpoints"])
        inner = pixels.resize(image, *_within(image.height, image.width, height, width), resample)
        canvas = Image.new("RGB", (width, height))
        canvas.paste(inner, ((width - inner.width) // 2, (height - inner.height) // 2))
        tiles = [
            canvas.crop((x, y, min(x + side, width), min(y + side, height)))
            for y in range(0, height, side)
            for x in range(0, width, side)
        ]
        found = [pixels.resize(image, *whole, resample), *tiles]
        return [self._fitted(part) for part in found]

    def _fitted(self, part: Image.Image) -> Image.Image:
        """A part resized and cropped as one picture of the class."""
        if self.settings.get("do_resize"):
            target = self.target(self.settings, part.height, part.width)
            if "crop_size" not in self.settings and "shortest_edge" in self.settings["size"]:
                target = (self.settings["size"]["shortest_edge"],) * 2
            part = pixels.resize(part, *target, self.settings.get("resample"))
        if self.settings.get("do_center_crop"):
            size = self.settings["crop_size"]
            part = Image.fromarray(pixels.center_crop(np.asarray(part), int(size["height"]), int(size["width"])))
        return part


def _best(height: int, width: int, choices: Sequence[Sequence[int]]) -> sizes.Size:
    """The size that keeps most pixels of a picture, and of those the one that leaves the fewest empty."""

    def value(choice: Sequence[int]) -> tuple[int, int]:
        tall, wide = choice
        scale = min(wide / width, tall / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        return kept, kept - tall * wide

    best = max(choices, key=value)  # the first of equal ones
    return int(best[0]), int(best[1])


def _within(height: int, width: int, tall: int, wide: int) -> sizes.Size:
    by_width, by_height = wide / width, tall / height
    if by_width < by_height:
        return min(math.ceil(height * by_width), tall), wide
    return tall, min(math.ceil(width * by_height), wide)


class GridTileProcessor(TileProcessor):
    """GOT-OCR 2: tiles of a grid of the nearest aspect ratio, then the whole, where ``crop_to_patches`` is on."""

    def parts(self, image: Image.Image) -> list[Image.Image]:
        """Tiles row by row, and the whole picture as a tile."""
        settings, resample = self.settings, self.settings.get("resample")
        height, width = sizes.fixed(settings, image.height, image.width)
        found = [image]
        if settings.get("crop_to_patches") and settings["max_patches"] > 1:
            columns, rows = _grid(image, height, width, settings["min_patches"], settings["max_patches"])
            canvas = pixels.resize(image, height * rows, width * columns, Image.Resampling.BICUBIC)
            found = [
                canvas.crop((x * width, y * height, (x + 1) * width, (y + 1) * height))
                for y in range(rows)
                for x in range(columns)
            ]
            if len(found) > 1:
                found.append(pixels.resize(image, height, width, Image.Resampling.BICUBIC))
        if not settings.get("do_resize"):
            return found
        return [pixels.resize(part, height, width, resample) for part in found]


def _grid(image: Image.Image, height: int, width: int, least: int, most: int) -> tuple[int, int]:
    """Columns and rows of the nearest aspect ratio; of equal ones, the larger where the picture fills half of it."""
    grids = [(x, y) for x in range(1, most + 1) for y in range(1, most + 1) if least <= x * y <= most]
    best, nearest = (1, 1), math.inf
    for grid in sorted(grids, key=lambda one: one[0] * one[1]):
        distance = abs(image.width / image.height - grid[0] / grid[1])
        if distance < nearest:
            best, nearest = grid, distance
        elif distance == nearest and image.width * image.height > 0.5 * height * width * grid[0] * grid[1]:
            best = grid
    return best


class PanProcessor(TileProcessor):
    """Gemma 3: the picture, and parts along its longer side where ``do_pan_and_scan`` is on."""

    def parts(self, image: Image.Image) -> list[Image.Image]:
        """The whole and its parts."""
        found = [image, *(self._parts(image) if self.settings.get("do_pan_and_scan") else [])]
        if not self.settings.get("do_resize"):
            return found
        target = sizes.fixed(self.settings, image.height, image.width)
        return [pixels.resize(part, *target, self.settings.get("resample")) for part in found]

    def joined(self, parts: Sequence[Image.Image], image: Image.Image) -> PreparedImage:
        """The inputs of a graph; without an axis of parts where the picture is not cut."""
        prepared = super().joined(parts, image)
        if self.settings.get("do_pan_and_scan"):
            return prepared
        return PreparedImage({"pixel_values": prepared.inputs["pixel_values"][0]}, prepared.original)

    def _parts(self, image: Image.Image) -> list[Image.Image]:
        least, most = self.settings["pan_and_scan_min_crop_size"], self.settings["pan_and_scan_max_num_crops"]
        long, short = max(image.size), min(image.size)
        if long / short < self.settings["pan_and_scan_min_ratio_to_activate"]:
            return []
        count = min(most, max(2, min(math.floor(long / least), math.floor(long / short + 0.5))))
        step = math.ceil(long / count)
        if min(step, short) < least:
            return []
        wide = image.width >= image.height
        starts = range(0, step * count, step)
        boxes = [
            (start, 0, min(start + step, long), short) if wide else (0, start, short, min(start + step, long))
            for start in starts
        ]
        return [image.crop(box) for box in boxes]
