"""Pictures made from pictures, as ``transformers.pipeline("image-to-image")`` of 4.57 answers."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

import numpy as np
from PIL import Image

from gpux.errors import UnsupportedError
from gpux.model.variant import StoredModel
from gpux.pipelines.base import AnswerRow, OpenOptions
from gpux.pipelines.batching import BatchBudget
from gpux.pipelines.options import CallOptions
from gpux.pipelines.vision.base import ImagePipeline, Images
from gpux.pipelines.vision.pictures import grey_png
from gpux.processors.image.processor import PreparedImage

_OUTPUT = "reconstruction"


class ImageToImageOptions(CallOptions, total=False):
    """Options of image-to-image."""


class ImageToImageArguments(ImageToImageOptions, OpenOptions, total=False):
    """Keywords of :class:`ImageToImagePipeline`."""


class ImageToImagePipeline(ImagePipeline):
    """A picture for each picture: larger and sharper ones by Swin2SR.

    >>> enlarge = ImageToImagePipeline(model)
    >>> enlarge("small.jpg").save("large.png")
    """

    task: ClassVar[str] = "image-to-image"
    call_options: ClassVar[type] = ImageToImageOptions
    budget: ClassVar[BatchBudget] = BatchBudget(cpu_per_thread=1, one_thread=1, device=4)  # pictures keep their size

    def __init__(self, model: StoredModel, **arguments: Unpack[ImageToImageArguments]) -> None:
        super().__init__(model, **arguments)
        fitting = [spec.name for spec in self.session.outputs if len(spec.shape) == 4 and "float" in spec.dtype]
        if not fitting:
            raise UnsupportedError(
                f"the graph of {model.id} gives {', '.join(spec.name for spec in self.session.outputs)}, no picture",
                hint=f"Convert the original weights with `gpux convert {model.id} --task {self.task}`.",
                model=model.id,
            )
        self.outputs = (_OUTPUT if _OUTPUT in fitting else fitting[0],)

    def __call__(self, inputs: Images, **options: Unpack[ImageToImageOptions]) -> Any:
        """The picture that the model makes of each picture.

        Args:
            inputs: a picture (path, bytes, PIL image, or uint8 array [height, width, channels]), or several.
            options: see :class:`ImageToImageOptions`.

        Returns:
            A PIL image in RGB; a list for several pictures. Its size is a multiple of the size to which the image
            processor pads, as in transformers: a picture of 100 × 67 gives 208 × 144 at twice the size and a padding to
            multiples of 8.

        Raises:
            InputError: an input cannot be read as a picture; ``index`` is its place.
            UsageError: an unknown option.
        """
        return super().__call__(inputs, **options)

    def postprocess(
        self, prepared: PreparedImage, output: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Image.Image:
        """The picture of values [channels, height, width], cut to 0 … 1."""
        (values,) = output.values()
        levels = np.round(np.clip(values.astype(np.float32, copy=False), 0, 1) * 255.0).astype(np.uint8)
        return Image.fromarray(levels[0] if len(levels) == 1 else np.moveaxis(levels, 0, -1))

    def to_json(self, answer: Image.Image) -> Any:
        """A PNG file in base64."""
        return grey_png(answer)

    def picture(self, inputs: Any, answer: Any) -> Image.Image:
        """The answer."""
        found: Image.Image = answer
        return found

    def render(self, answer: Any) -> list[AnswerRow]:
        """The size of the picture, which :meth:`to_json` has made a file of."""
        picture = answer if isinstance(answer, Image.Image) else Image.open(io.BytesIO(base64.b64decode(answer)))
        return [AnswerRow(f"a picture of {picture.width} x {picture.height}; --save writes it to a file")]
