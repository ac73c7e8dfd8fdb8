"""Classes whose models find boxes or masks: pixel values, and a mask of the pixels that are the picture's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gpux.processors.image import pixels, sizes
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
            inputs["pixel_mask"] = np.zeros((height, width), np.int64)
            inputs["pixel_mask"][:tall, :wide] = 1
        return PreparedImage(inputs, (image.height, image.width), resized=(tall, wide))


class UnmaskedProcessor(PaddingProcessor):
    """YOLOS: padded, without a mask."""

    mask = False


class MaskProcessor(PaddingProcessor):
    """MaskFormer, Mask2Former, OneFormer: always padded."""

    always = True


def padding(
    target: sizes.Target, kind: type[PaddingProcessor] = PaddingProcessor
) -> Callable[[str, Mapping[str, Any]], PaddingProcessor]:
    """A processor of one target size that pads."""
    return lambda class_name, settings: kind(class_name, settings, target)
