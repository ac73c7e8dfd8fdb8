"""Steps on pixels: resizing by Pillow, cropping, padding, and values by look-up tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gpux.errors import InputError, UnsupportedError

#: The largest picture after resizing, in pixels: Pillow's own limit for a file that it opens without a warning.
MOST_PIXELS = 89_478_485

Pixels = NDArray[Any]  # [height, width, channels]


def resize(
    image: Image.Image, height: int, width: int, resample: int | None, reducing_gap: float | None = None
) -> Image.Image:
    """A picture of another size, by Pillow; ``resample`` as in files (0 nearest, 1 Lanczos, 2 bilinear, 3 bicubic).

    Raises:
        InputError: the new size is empty or above :data:`MOST_PIXELS`.
    """
    check_size(image, height, width)
    filtered = Image.Resampling(Image.Resampling.BILINEAR if resample is None else resample)
    return image.resize((width, height), filtered, reducing_gap=reducing_gap)


def check_size(image: Image.Image, height: int, width: int) -> None:
    """Refuse to make a picture that is empty or huge.

    Raises:
        InputError: the new size is empty or above :data:`MOST_PIXELS`.
    """
    if height < 1 or width < 1 or height * width > MOST_PIXELS:
        reason = "leaves no pixels" if height < 1 or width < 1 else f"exceeds {MOST_PIXELS:,} pixels"
        raise InputError(
            f"a picture of {image.width} x {image.height} would be resized to {width} x {height}, which {reason}",
            hint="Crop the picture or pad it to an aspect ratio nearer to 1.",
        )


def center_crop(pixels: Pixels, height: int, width: int) -> Pixels:
    """The middle of a picture, with zeros around it where the picture is smaller."""
    tall, wide = pixels.shape[:2]
    top, left = (tall - height) // 2, (wide - width) // 2
    if top >= 0 and left >= 0:
        return pixels[top : top + height, left : left + width]
    outer = np.zeros((max(height, tall), max(width, wide), *pixels.shape[2:]), pixels.dtype)
    above, before = math.ceil((outer.shape[0] - tall) / 2), math.ceil((outer.shape[1] - wide) / 2)
    outer[above : above + tall, before : before + wide] = pixels
    top, left = top + above, left + before
    return outer[max(0, top) : top + height, max(0, left) : left + width]


def rescale(values: NDArray[Any], factor: float) -> NDArray[np.float32]:
    """Values times ``factor``, computed in float64."""
    return (values.astype(np.float64) * factor).astype(np.float32)


def normalize(values: NDArray[Any], mean: float | Sequence[float], std: float | Sequence[float]) -> NDArray[Any]:
    """``(values - mean) / std`` for values [..., channels].

    Raises:
        UnsupportedError: other counts of means than channels.
    """
    if not np.issubdtype(values.dtype, np.floating):
        values = values.astype(np.float32)
    channels = values.shape[-1]
    parts = []
    for name, given in (("image_mean", mean), ("image_std", std)):
        numbers = [given] * channels if isinstance(given, (int, float)) else list(given)
        if len(numbers) != channels:
            raise UnsupportedError(f"the image processor has {len(numbers)} values in {name}, for {channels} channels")
        parts.append(np.array(numbers, values.dtype))
    found: NDArray[Any] = (values - parts[0]) / parts[1]
    return found


def values_of(settings: Mapping[str, Any], values: NDArray[Any]) -> NDArray[Any]:
    """Values [..., channels], rescaled and normalized as the settings say."""
    if settings.get("do_rescale"):
        values = rescale(values, settings["rescale_factor"])
    if settings.get("do_normalize"):
        values = normalize(values, settings["image_mean"], settings["image_std"])
    return values


class ValueTable:
    """What becomes of each of the 256 values of a byte, for each channel.

    Equal to computing every pixel, and faster: :meth:`apply` reads a table.
    """

    def __init__(self, compute: Callable[[NDArray[np.uint8]], NDArray[Any]], channels: int = 3) -> None:
        levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None], channels, axis=1)
        self.table = np.ascontiguousarray(compute(levels).T)  # [channels, 256]

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """Values [channels, height, width] of pixels [height, width, channels]."""
        height, width, channels = pixels.shape
        found = np.empty((channels, height, width), self.table.dtype)
        for channel in range(channels):
            np.take(self.table[channel], pixels[..., channel], out=found[channel], mode="clip")
        return found


def pad_after(values: NDArray[Any], height: int, width: int, value: float = 0.0) -> NDArray[Any]:
    """Values [channels, height, width] with more rows at the bottom and columns at the right."""
    channels, tall, wide = values.shape
    if (tall, wide) == (height, width):
        return values
    if tall > height or wide > width:
        raise InputError(f"a picture of {wide} x {tall} pixels after resizing does not fit {width} x {height}")
    found = np.full((channels, height, width), value, values.dtype)
    found[:, :tall, :wide] = values
    return found
