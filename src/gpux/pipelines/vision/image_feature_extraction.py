"""Vectors of pictures, as ``transformers.pipeline("image-feature-extraction")`` of 4.57 answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Unpack

import numpy as np

from gpux.errors import UnsupportedError
from gpux.model.variant import StoredModel
from gpux.pipelines.base import AnswerRow
from gpux.pipelines.options import CallOptions, Option
from gpux.pipelines.vision.base import ImageOpenOptions, ImagePipeline, Images
from gpux.processors.image.processor import PreparedImage
from gpux.runtime.token_outputs import TOKEN_VECTORS

_POOLED = "pooler_output"
_SHOWN = 5


class ImageFeatureExtractionOptions(CallOptions, total=False):
    """Options of image-feature-extraction."""

    pool: Annotated[bool | None, Option("one vector of the whole picture, from the model's pooler", default=False)]
    return_arrays: Annotated[bool, Option("numpy arrays instead of nested lists", default=False)]


class ImageFeatureExtractionArguments(ImageFeatureExtractionOptions, ImageOpenOptions, total=False):
    """Keywords of :class:`ImageFeatureExtractionPipeline`."""


class ImageFeatureExtractionPipeline(ImagePipeline):
    """Vectors of pictures: of each patch or place, or with ``pool`` one of the whole picture.

    >>> features = ImageFeatureExtractionPipeline(model, return_arrays=True)
    >>> features("cat.jpg").shape
    (1, 197, 768)
    """

    task: ClassVar[str] = "image-feature-extraction"
    model_task: ClassVar[str] = "feature-extraction"
    call_options: ClassVar[type] = ImageFeatureExtractionOptions

    def __init__(self, model: StoredModel, **arguments: Unpack[ImageFeatureExtractionArguments]) -> None:
        super().__init__(model, **arguments)
        floats = [spec.name for spec in self.session.outputs if "float" in spec.dtype]
        named = [name for name in TOKEN_VECTORS if name in floats]
        self._features, self._pooled = (named or floats)[0], _POOLED if _POOLED in floats else None
        self.outputs = tuple(name for name in (self._features, self._pooled) if name is not None)

    def __call__(self, inputs: Images, **options: Unpack[ImageFeatureExtractionOptions]) -> Any:
        """The vectors of each picture.

        Args:
            inputs: a picture (path, bytes, PIL image, or uint8 array [height, width, channels]), or several.
            options: see :class:`ImageFeatureExtractionOptions`.

        Returns:
            Nested lists [1, patches, size], of a convolutional model [1, size, rows, columns]; with ``pool`` [1, size],
            of a convolutional model [1, size, 1, 1]; a list of such for several pictures. With ``return_arrays``
            float32 arrays of these shapes.

        Raises:
            InputError: an input cannot be read as a picture; ``index`` is its place.
            UnsupportedError: the graph has no pooled output, and ``pool`` is on.
            UsageError: an unknown option.
        """
        return super().__call__(inputs, **options)

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Check that the graph has the pooled vector."""
        if options.get("pool") and self._pooled is None:
            raise UnsupportedError(
                f"the graph of {self.model.id} has no pooled output; it gives {self._features}",
                hint="Leave pool out, and take the first vector (a transformer's class token), or the mean of all.",
                model=self.model.id,
            )
        return options

    def postprocess(self, prepared: PreparedImage, output: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        """The vectors with a leading axis of length 1, as transformers has it."""
        name = self._pooled if options.get("pool") else self._features
        found = np.asarray(output[str(name)][None], dtype=np.float32)
        return found if options.get("return_arrays") else found.tolist()

    def to_json(self, answer: Any) -> Any:
        """Nested lists."""
        return answer.tolist() if isinstance(answer, np.ndarray) else answer

    def render(self, answer: Any) -> list[AnswerRow]:
        """The shape and the first numbers."""
        found = np.asarray(answer)
        begin = ", ".join(f"{value:.4f}" for value in found.ravel()[:_SHOWN])
        return [AnswerRow(f"{' × '.join(map(str, found.shape))} numbers: {begin}{' …' if found.size > _SHOWN else ''}")]
