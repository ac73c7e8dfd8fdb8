"""What an image processor returns, and what a pipeline expects of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class PreparedImage:
    """One picture as the graph reads it."""

    #: by name of a graph input, without the batch axis: ``pixel_values`` float32 [channels, height, width], and others
    #: of the class (``pixel_mask`` int64 [height, width] …)
    inputs: Mapping[str, NDArray[Any]]
    original: tuple[int, int]  #: height and width of the picture that came in
    #: height and width of the picture after resizing and before padding, where a class pads at the bottom and the right
    resized: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pixel values."""
        height, width = self.inputs["pixel_values"].shape[-2:]
        return height, width


class ImageProcessor(Protocol):
    """Prepares pictures as one class of transformers does, with the settings of one repository."""

    class_name: str  #: transformers' name, without ``Fast`` or ``FeatureExtractor``: ``ViTImageProcessor``
    settings: Mapping[str, Any]  #: of the repository's file over the defaults of the class

    def __call__(self, image: Image.Image) -> PreparedImage:
        """Prepare an RGB picture.

        Raises:
            InputError: the picture is too small or too large for the processor.
        """
