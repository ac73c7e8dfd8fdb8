"""The image processor of a repository, by the class that its files name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gpux.errors import UnsupportedError
from gpux.model.variant import StoredModel


@dataclass(frozen=True)
class PreparedImage:
    """One picture as the graph reads it."""

    #: by name of a graph input, without the batch axis: ``pixel_values`` float32 [channels, height, width], and others
    #: of the class (``pixel_mask`` …)
    inputs: Mapping[str, NDArray[Any]]
    original: tuple[int, int]  #: height and width of the picture that came in

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


def open_image_processor(model: StoredModel) -> ImageProcessor:
    """The image processor that the files of a variant name.

    Raises:
        UnsupportedError: there is none, or it is of a class that gpux does not know.
    """
    found = model.read_json("preprocessor_config.json")
    name = str(found.get("image_processor_type") or found.get("feature_extractor_type") or "none")
    plain = name.removesuffix("Fast").replace("FeatureExtractor", "ImageProcessor")
    if plain not in _CLASSES:
        raise UnsupportedError(
            f"{model.id} needs the image processor {name}, which gpux does not have",
            hint="Prepare the arrays yourself and run them with gpux.Graphs.",
            model=model.id,
        )
    return _CLASSES[plain](plain, found)


class FixedSizeProcessor:
    """Resize to a fixed size, rescale, normalize."""

    def __init__(self, class_name: str, settings: Mapping[str, Any]) -> None:
        self.class_name = class_name
        self.settings: Mapping[str, Any] = {**_DEFAULTS, **settings}

    def __call__(self, image: Image.Image) -> PreparedImage:
        """Pixel values float32 [3, height, width]."""
        settings, original = self.settings, (image.height, image.width)
        if settings["do_resize"]:
            size = settings["size"]
            image = image.resize((size["width"], size["height"]), settings["resample"])
        values: NDArray[Any] = np.asarray(image)
        if settings["do_rescale"]:
            values = (values.astype(np.float64) * settings["rescale_factor"]).astype(np.float32)
        if settings["do_normalize"]:
            mean, std = (np.array(settings[name], dtype=values.dtype) for name in ("image_mean", "image_std"))
            values = (values - mean) / std
        return PreparedImage({"pixel_values": values.transpose(2, 0, 1)}, original)


_DEFAULTS: dict[str, Any] = {
    "do_resize": True,
    "size": {"height": 224, "width": 224},
    "resample": Image.Resampling.BILINEAR,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": (0.5, 0.5, 0.5),
    "image_std": (0.5, 0.5, 0.5),
}
_CLASSES: dict[str, Callable[[str, Mapping[str, Any]], ImageProcessor]] = {"ViTImageProcessor": FixedSizeProcessor}
