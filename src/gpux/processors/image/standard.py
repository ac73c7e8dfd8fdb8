"""Classes that resize, crop, rescale and normalize."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gpux.errors import InputError
from gpux.processors.image import pixels, sizes
from gpux.processors.image.prepared import PreparedImage


class StandardProcessor:
    """Resize to a target size, crop the middle, rescale, normalize: each where the settings say so.

    Pixel values are float32 [3, height, width]; uint8 where neither rescaling nor normalizing is on.
    """

    def __init__(self, class_name: str, settings: Mapping[str, Any], target: sizes.Target = sizes.fixed) -> None:
        self.class_name = class_name
        self.settings = settings
        self.target = target
        self.values = pixels.ValueTable(self.compute)

    def __call__(self, image: Image.Image) -> PreparedImage:
        """Prepare an RGB picture."""
        return self.prepared(self.values.apply(self.shaped(image)), image)

    def compute(self, levels: NDArray[Any]) -> NDArray[Any]:
        """Values of pixels [..., 3]."""
        return pixels.values_of(self.settings, levels)

    def shaped(self, image: Image.Image) -> NDArray[np.uint8]:
        """Pixels [height, width, 3] after resizing and cropping."""
        found = np.asarray(self.resized(image) if self.settings.get("do_resize") else image)
        if self.settings.get("do_center_crop"):
            size = self.settings["crop_size"]
            found = pixels.center_crop(found, int(size["height"]), int(size["width"]))
        return found

    def resized(self, image: Image.Image) -> Image.Image:
        """The picture at its target size."""
        return pixels.resize(
            image, *self.target(self.settings, image.height, image.width), self.settings.get("resample")
        )

    def prepared(self, values: NDArray[Any], image: Image.Image) -> PreparedImage:
        """The inputs of a graph, from pixel values."""
        return PreparedImage({"pixel_values": values}, (image.height, image.width))


class ConvNextProcessor(StandardProcessor):
    """Below 384 pixels, the shorter side becomes ``shortest_edge / crop_pct`` and the middle is cropped."""

    def resized(self, image: Image.Image) -> Image.Image:
        """The picture at its target size."""
        edge, resample = self.settings["size"].get("shortest_edge"), self.settings["resample"]
        if edge is None:
            return super().resized(image)  # which refuses other sizes
        if edge >= 384:
            return pixels.resize(image, edge, edge, resample)
        larger = sizes.shortest_edge(int(edge / self.settings["crop_pct"]), image.height, image.width)
        return Image.fromarray(pixels.center_crop(np.asarray(pixels.resize(image, *larger, resample)), edge, edge))


class EfficientNetProcessor(StandardProcessor):
    """Values may be moved by -1 after rescaling, and are divided by the deviation a second time with a top layer."""

    def compute(self, levels: NDArray[Any]) -> NDArray[Any]:
        """Values of pixels [..., 3]."""
        settings = self.settings
        if settings.get("do_rescale"):
            levels = pixels.rescale(levels, settings["rescale_factor"])
            levels = levels - np.float32(1) if settings.get("rescale_offset") else levels
        if settings.get("do_normalize"):
            levels = pixels.normalize(levels, settings["image_mean"], settings["image_std"])
        return pixels.normalize(levels, 0, settings["image_std"]) if settings.get("include_top") else levels


class RescalingProcessor(StandardProcessor):
    """Multiples of ``size_divisor``, values by 1/255: GLPN."""

    def compute(self, levels: NDArray[Any]) -> NDArray[Any]:
        """Values of pixels [..., 3]."""
        return pixels.rescale(levels, 1 / 255) if self.settings.get("do_rescale") else levels


class FlippingProcessor(StandardProcessor):
    """Channels as blue, green, red: MobileViT and LayoutLMv2."""

    flag: str | None = "do_flip_channel_order"

    def shaped(self, image: Image.Image) -> NDArray[np.uint8]:
        """Pixels [height, width, 3] after resizing and cropping."""
        found = super().shaped(image)
        return found[..., ::-1] if self.flag is None or self.settings.get(self.flag) else found


class Swin2SRProcessor(StandardProcessor):
    """Mirrored at the bottom and the right up to the next larger multiple of ``size_divisor``."""

    def prepared(self, values: NDArray[Any], image: Image.Image) -> PreparedImage:
        """The inputs of a graph, from pixel values."""
        if not self.settings.get("do_pad"):
            return super().prepared(values, image)
        divisor = self.settings["size_divisor"]
        height, width = values.shape[1:]
        more = ((height // divisor + 1) * divisor - height, (width // divisor + 1) * divisor - width)
        padded = np.pad(values, ((0, 0), (0, more[0]), (0, more[1])), mode="symmetric")
        return PreparedImage({"pixel_values": padded}, (image.height, image.width), resized=(height, width))


class DepthProcessor(StandardProcessor):
    """DPT: padded around to multiples of ``size_divisor`` where ``do_pad`` is on."""

    def prepared(self, values: NDArray[Any], image: Image.Image) -> PreparedImage:
        """The inputs of a graph, from pixel values."""
        divisor = self.settings.get("size_divisor")
        if not self.settings.get("do_pad") or not divisor:
            return super().prepared(values, image)
        more = [math.ceil(side / divisor) * divisor - side for side in values.shape[1:]]
        padded = np.pad(values, [(0, 0), *((extra // 2, extra - extra // 2) for extra in more)])
        return PreparedImage({"pixel_values": padded}, (image.height, image.width))


class DocumentProcessor(StandardProcessor):
    """LayoutLMv3; its words come with the picture, since gpux does not read text out of pictures."""


class DocumentFlippingProcessor(FlippingProcessor):
    """LayoutLMv2; its words come with the picture."""

    flag = None


class ClusterProcessor(StandardProcessor):
    """ImageGPT: each pixel is the index of its nearest colour."""

    def __init__(self, class_name: str, settings: Mapping[str, Any], target: sizes.Target = sizes.fixed) -> None:
        super().__init__(class_name, settings, target)
        clusters = settings.get("clusters")
        self.clusters = None if clusters is None else np.array(clusters)

    def compute(self, levels: NDArray[Any]) -> NDArray[Any]:
        """Values of pixels [..., 3]."""
        return pixels.rescale(levels, 1 / 127.5) - 1 if self.settings.get("do_normalize") else levels

    def prepared(self, values: NDArray[Any], image: Image.Image) -> PreparedImage:
        """``input_ids`` int64 [height * width]."""
        if not self.settings.get("do_color_quantize"):
            return super().prepared(values, image)
        if self.clusters is None:
            raise InputError("the image processor has no clusters; they stand in preprocessor_config.json")
        flat = values.transpose(1, 2, 0).reshape(-1, 3)
        squares = np.sum(np.square(flat), axis=1)[:, None]
        distances = squares - 2 * np.matmul(flat, self.clusters.T) + np.sum(np.square(self.clusters.T), axis=0)[None, :]
        return PreparedImage({"input_ids": np.argmin(distances, axis=1)}, (image.height, image.width))


def standard(target: sizes.Target) -> Callable[[str, Mapping[str, Any]], StandardProcessor]:
    """A :class:`StandardProcessor` of one target size."""
    return functools.partial(StandardProcessor, target=target)
