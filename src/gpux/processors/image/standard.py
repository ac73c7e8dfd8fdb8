"""Classes that resize, crop, rescale and normalize."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gpux.errors import InputError, UnsupportedError
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
        self.check()

    def __call__(self, image: Image.Image) -> PreparedImage:
        """Prepare an RGB picture."""
        return self.prepared(self.values.apply(self.shaped(image)), image)

    def check(self) -> None:
        """Use the settings once, so that what is missing or wrong is an error before the first picture."""
        if self.settings.get("do_resize"):
            self.target(self.settings, 480, 640)
            Image.Resampling(self.settings.get("resample") or 0)
        if self.settings.get("do_center_crop"):
            int(self.settings["crop_size"]["height"] * self.settings["crop_size"]["width"])

    def together(self, images: Sequence[Image.Image]) -> PreparedImage:
        """Frames of a moving picture, or two pictures that are compared: inputs with an axis of them in front.

        Raises:
            InputError: no pictures, or pictures whose inputs have different shapes.
        """
        parts = [self(image) for image in images]
        if not parts or len({value.shape for part in parts for value in part.inputs.values()}) > len(parts[0].inputs):
            raise InputError(f"{len(parts)} pictures of different sizes cannot be one input of the model")
        stacked = {name: np.stack([part.inputs[name] for part in parts]) for name in parts[0].inputs}
        return PreparedImage(stacked, parts[0].original, parts[0].resized)

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

    def check(self) -> None:
        """Require a shortest edge."""
        if self.settings.get("do_resize"):
            sizes.need(self.settings["size"], "shortest_edge")

    def resized(self, image: Image.Image) -> Image.Image:
        """The picture at its target size."""
        edge, resample = self.settings["size"]["shortest_edge"], self.settings["resample"]
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


class OffsetProcessor(StandardProcessor):
    """ViViT: values are moved by -1 after rescaling."""

    def compute(self, levels: NDArray[Any]) -> NDArray[Any]:
        """Values of pixels [..., 3]."""
        settings = self.settings
        if settings.get("do_rescale"):
            levels = pixels.rescale(levels, settings["rescale_factor"])
            levels = levels - np.float32(1) if settings.get("offset") else levels
        if settings.get("do_normalize"):
            levels = pixels.normalize(levels, settings["image_mean"], settings["image_std"])
        return levels


class CropFirstProcessor(StandardProcessor):
    """Perceiver: the middle of the picture, ``size / crop_size`` of its shorter side, is resized to ``size``."""

    def shaped(self, image: Image.Image) -> NDArray[np.uint8]:
        """Pixels [height, width, 3] after cropping and resizing."""
        height, width = sizes.fixed(self.settings, image.height, image.width)
        if self.settings.get("do_center_crop"):
            crop, shorter = self.settings["crop_size"], min(image.height, image.width)
            part = int(height / crop["height"] * shorter), int(width / crop["width"] * shorter)
            image = Image.fromarray(pixels.center_crop(np.asarray(image), *part))
        if self.settings.get("do_resize"):
            image = pixels.resize(image, height, width, self.settings["resample"])
        return np.asarray(image)


class SquareProcessor(StandardProcessor):
    """LLaVA: padded to a square of the mean colour where ``do_pad`` is on."""

    def resized(self, image: Image.Image) -> Image.Image:
        """The picture at its target size."""
        return super().resized(self._square(image))

    def shaped(self, image: Image.Image) -> NDArray[np.uint8]:
        """Pixels [height, width, 3] after padding, resizing and cropping."""
        return super().shaped(image if self.settings.get("do_resize") else self._square(image))

    def _square(self, image: Image.Image) -> Image.Image:
        red, green, blue = (int(part * 255) for part in self.settings["image_mean"])
        return on_square(image, (red, green, blue)) if self.settings.get("do_pad") else image


class FixedPadProcessor(StandardProcessor):
    """TVP: the longer side becomes ``longest_edge``, padded to ``pad_size``, channels as blue, green, red."""

    def prepared(self, values: NDArray[Any], image: Image.Image) -> PreparedImage:
        """The inputs of a graph, from pixel values."""
        if self.settings.get("do_pad"):
            size = self.settings["pad_size"]
            height, width = size.get("height", values.shape[1]), size.get("width", values.shape[2])
            values = pixels.pad_after(values, height, width, self.settings.get("constant_values") or 0)
        if self.settings.get("do_flip_channel_order"):
            values = values[::-1]
        return super().prepared(values, image)


class MatteProcessor(StandardProcessor):
    """ViTMatte: a picture and its trimap, padded at the bottom and the right."""

    def with_trimap(self, image: Image.Image, trimap: Image.Image) -> PreparedImage:
        """``pixel_values`` float32 [4, height, width]; the fourth channel is the trimap (grey: 0 back, 255 front).

        Raises:
            InputError: the trimap is of another size.
        """
        if trimap.size != image.size:
            sizes_of = (f"{one.width} x {one.height}" for one in (trimap, image))
            raise InputError("the trimap is {}, the picture {}".format(*sizes_of))
        fourth = np.asarray(trimap.convert("L"))
        grey = pixels.rescale(fourth, self.settings["rescale_factor"]) if self.settings.get("do_rescale") else fourth
        values = np.concatenate([self.values.apply(np.asarray(image)), grey[None]])
        height, width = values.shape[1:]
        if self.settings.get("do_pad"):
            divisor = self.settings["size_divisor"]
            values = pixels.pad_after(values, *(math.ceil(side / divisor) * divisor for side in values.shape[1:]))
        return PreparedImage({"pixel_values": values}, (height, width), resized=(height, width))

    def __call__(self, image: Image.Image) -> PreparedImage:
        """Refuse a picture without its trimap."""
        raise InputError("the image processor VitMatteImageProcessor needs a trimap beside the picture")


class CanvasProcessor(StandardProcessor):
    """Janus and DeepSeek-VL: the longer side becomes ``size``, in the middle of a square of the mean colour."""

    def check(self) -> None:
        """Require a square."""
        height, width = sizes.fixed(self.settings, 0, 0)
        if height != width:
            raise UnsupportedError(f"the image processor {self.class_name} takes a square size, not {width} x {height}")

    def shaped(self, image: Image.Image) -> NDArray[np.uint8]:
        """Pixels [height, width, 3] after resizing and padding."""
        if self.settings.get("do_resize"):
            scale, least = self.settings["size"]["height"] / max(image.size), self.settings["min_size"]
            height, width = (max(int(side * scale), least) for side in (image.height, image.width))
            image = pixels.resize(image, height, width, self.settings.get("resample"))
        if self.settings.get("do_pad"):
            red, green, blue = self.settings["background_color"]
            image = on_square(image, (red, green, blue))
        return np.asarray(image)


def on_square(image: Image.Image, color: tuple[int, int, int]) -> Image.Image:
    """A picture in the middle of a square of one colour."""
    side = max(image.size)
    if image.height == image.width:
        return image
    found = Image.new("RGB", (side, side), color)
    found.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return found


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
