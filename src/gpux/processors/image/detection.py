"""Classes whose models find boxes or masks: pixel values, and a mask of the pixels that are the picture's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gpux.errors import UnsupportedError
from gpux.processors.image import pixels, resampling, sizes
from gpux.processors.image.prepared import PreparedImage
from gpux.processors.image.standard import StandardProcessor


class PaddingProcessor(StandardProcessor):
    """Zeros at the bottom and the right up to ``pad_size``, and ``pixel_mask``.

    Without ``pad_size`` transformers pads to the largest picture of a batch; gpux prepares each picture alone, so its
    mask is 1 throughout.
    """

    always = False  #: whether the class pads without asking ``do_pad``
    mask = True  #: whether the class returns ``pixel_mask``

    def prepared(self, values: NDArray[Any], image: Image.Image) -> PreparedImage:
        """The inputs of a graph, from pixel values."""
        if not (self.always or self.settings.get("do_pad")):
            return super().prepared(values, image)
        tall, wide = values.shape[1:]
        size = self.settings.get("pad_size")
        height, width = (tall, wide) if size is None else (int(size["height"]), int(size["width"]))
        inputs: dict[str, NDArray[Any]] = {"pixel_values": pixels.pad_after(values, height, width)}
        if self.mask:
            mask = np.ones((height, width), np.int64)
            mask[tall:], mask[:, wide:] = 0, 0
            inputs["pixel_mask"] = mask
        return PreparedImage(inputs, (image.height, image.width), resized=(tall, wide))


class UnmaskedProcessor(PaddingProcessor):
    """YOLOS: padded, without a mask."""

    mask = False


class MaskProcessor(PaddingProcessor):
    """MaskFormer, Mask2Former, OneFormer: always padded."""

    always = True


class CroppedPaddingProcessor(PaddingProcessor):
    """BridgeTower: the middle is cropped to a square of ``shortest_edge``."""

    def check(self) -> None:
        """Require a shortest edge."""
        sizes.need(self.settings.get("crop_size") or self.settings["size"], "shortest_edge")
        self.target(self.settings, 480, 640)

    def shaped(self, image: Image.Image) -> NDArray[np.uint8]:
        """Pixels [height, width, 3] after resizing and cropping."""
        found = np.asarray(self.resized(image) if self.settings.get("do_resize") else image)
        if self.settings.get("do_center_crop"):
            edge = (self.settings.get("crop_size") or self.settings["size"])["shortest_edge"]
            found = pixels.center_crop(found, edge, edge)
        return found


class SquarePaddingProcessor(StandardProcessor):
    """SAM: zeros at the bottom and the right up to ``pad_size``."""

    def prepared(self, values: NDArray[Any], image: Image.Image) -> PreparedImage:
        """The inputs of a graph, from pixel values."""
        tall, wide = values.shape[1:]
        if self.settings.get("do_pad"):
            size = self.settings["pad_size"]
            values = pixels.pad_after(values, int(size["height"]), int(size["width"]))
        return PreparedImage({"pixel_values": values}, (image.height, image.width), resized=(tall, wide))


class EomtProcessor(StandardProcessor):
    """EoMT: zeros at the bottom and the right up to a square where ``do_pad`` is on."""

    def __init__(
        self, class_name: str, settings: Mapping[str, Any], target: sizes.Target = sizes.rounded_edges
    ) -> None:
        super().__init__(class_name, settings, target)
        if settings.get("do_split_image"):
            raise UnsupportedError(f"the image processor {class_name} with do_split_image is not supported")

    def shaped(self, image: Image.Image) -> NDArray[np.uint8]:
        """Pixels [height, width, 3] after resizing and padding."""
        found = super().shaped(image)
        if not self.settings.get("do_pad"):
            return found
        edge = self.settings["size"]["shortest_edge"]
        height, width = edge, self.settings["size"].get("longest_edge") or edge
        return np.pad(found, ((0, max(0, height - found.shape[0])), (0, max(0, width - found.shape[1])), (0, 0)))


class Owlv2Processor(StandardProcessor):
    """OWLv2: padded with grey at the bottom and the right to a square, then resized smoothly."""

    def __call__(self, image: Image.Image) -> PreparedImage:
        """Prepare an RGB picture."""
        settings = self.settings
        if not settings.get("do_rescale"):
            raise UnsupportedError(f"the image processor {self.class_name} without do_rescale is not supported")
        values = pixels.rescale(np.asarray(image), settings["rescale_factor"])
        tall, wide = values.shape[:2]
        if settings.get("do_pad"):
            side = max(tall, wide)
            values = np.pad(values, ((0, side - tall), (0, side - wide), (0, 0)), constant_values=0.5)
        if settings.get("do_resize"):
            height, width = sizes.fixed(settings, tall, wide)
            pixels.check_size(image, height, width)
            values = resampling.smooth_resize(values, height, width)
        if settings.get("do_normalize"):
            values = pixels.normalize(values, settings["image_mean"], settings["image_std"])
        return PreparedImage({"pixel_values": np.ascontiguousarray(values.transpose(2, 0, 1))}, (tall, wide))


class FloatResizeProcessor(StandardProcessor):
    """DINOv3: rescaled, then resized linearly with averaging, as torchvision does with floats."""

    def __call__(self, image: Image.Image) -> PreparedImage:
        """Prepare an RGB picture."""
        settings = self.settings
        if settings.get("do_resize") and settings.get("resample") != Image.Resampling.BILINEAR:
            raise UnsupportedError(f"the image processor {self.class_name} resizes bilinearly")
        values = np.asarray(image).transpose(2, 0, 1).astype(np.float32)
        if settings.get("do_rescale"):
            values = values * np.float32(settings["rescale_factor"])
        if settings.get("do_resize"):
            height, width = self.target(settings, image.height, image.width)
            pixels.check_size(image, height, width)
            values = resampling.antialiased_resize(values, height, width)
        last = values.transpose(1, 2, 0)
        if settings.get("do_center_crop"):
            size = settings["crop_size"]
            last = pixels.center_crop(last, int(size["height"]), int(size["width"]))
        if settings.get("do_normalize"):
            last = pixels.normalize(last, settings["image_mean"], settings["image_std"])
        values = np.ascontiguousarray(last.transpose(2, 0, 1))
        return PreparedImage({"pixel_values": values}, (image.height, image.width))


class ZoeDepthProcessor(StandardProcessor):
    """ZoeDepth: mirrored around, then resized linearly with its corners kept."""

    def __call__(self, image: Image.Image) -> PreparedImage:
        """Prepare an RGB picture."""
        settings = self.settings
        if not settings.get("do_rescale") or settings.get("resample") != Image.Resampling.BILINEAR:
            raise UnsupportedError(f"the image processor {self.class_name} rescales, and resizes bilinearly")
        values = pixels.rescale(np.asarray(image), settings["rescale_factor"])
        if settings.get("do_pad"):
            more = [int(np.sqrt(side / 2) * 3) for side in values.shape[:2]]
            values = np.pad(values, ((more[0], more[0]), (more[1], more[1]), (0, 0)), mode="reflect")
        channels = np.ascontiguousarray(values.transpose(2, 0, 1))
        if settings.get("do_resize"):
            height, width = sizes.depth(settings, *channels.shape[1:])
            pixels.check_size(image, height, width)
            channels = resampling.aligned_resize(channels, height, width)
        if settings.get("do_normalize"):
            last = pixels.normalize(channels.transpose(1, 2, 0), settings["image_mean"], settings["image_std"])
            channels = np.ascontiguousarray(last.transpose(2, 0, 1))
        return PreparedImage({"pixel_values": channels}, (image.height, image.width))


def padding(
    target: sizes.Target, kind: type[PaddingProcessor] = PaddingProcessor
) -> Callable[[str, Mapping[str, Any]], PaddingProcessor]:
    """A processor of one target size that pads."""
    return lambda class_name, settings: kind(class_name, settings, target)
