"""Opens pictures: from a path, bytes, a PIL image or an array, upright and in RGB."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from gpux.errors import InputError

#: What :func:`load_image` accepts; an array is uint8 [height, width], [height, width, 3] or [height, width, 4].
ImageInput = str | Path | bytes | Image.Image | NDArray[np.uint8]


def load_image(image: ImageInput, index: int = 0) -> Image.Image:
    """A picture in RGB, turned as its EXIF orientation says.

    Args:
        image: a path, the bytes of a file, a PIL image, or an array.
        index: its place among several inputs, for errors.

    Raises:
        InputError: it cannot be read as a picture.
    """
    opened = _opened(image, index)
    upright = ImageOps.exif_transpose(opened)
    return upright if upright.mode == "RGB" else upright.convert("RGB")


def _opened(image: Any, index: int) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, np.ndarray):
        return Image.fromarray(image)
    try:
        return Image.open(io.BytesIO(image) if isinstance(image, bytes) else image)
    except (OSError, ValueError) as exc:
        raise InputError(f"picture {index} cannot be read: {exc}", index=index) from exc
