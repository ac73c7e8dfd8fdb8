"""Labels of pictures, as ``transformers.pipeline("image-classification")`` of 4.57 answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Unpack

import numpy as np

from gpux.model.variant import StoredModel
from gpux.pipelines.base import AnswerRow, OpenOptions, check_positive
from gpux.pipelines.options import CallOptions, Option
from gpux.pipelines.vision.base import ImagePipeline, Images
from gpux.processors.image.processor import PreparedImage
from gpux.runtime.numeric import softmax


class ImageClassificationOptions(CallOptions, total=False):
    """Options of image-classification."""

    top_k: Annotated[int | None, Option("labels in an answer", default=5)]
    function_to_apply: Annotated[
        Literal["softmax", "sigmoid", "none"] | None,
        Option("from logits to scores; by default as the model's configuration implies"),
    ]


class ImageClassificationArguments(ImageClassificationOptions, OpenOptions, total=False):
    """Keywords of :class:`ImageClassificationPipeline`."""


class ImageClassificationPipeline(ImagePipeline):
    """Labels with scores for pictures.

    >>> classify = ImageClassificationPipeline(model)
    >>> classify("cat.jpg", top_k=1)
    [{'label': 'cat', 'score': 0.97}]
    """

    task: ClassVar[str] = "image-classification"
    call_options: ClassVar[type] = ImageClassificationOptions
    outputs = ("logits",)

    def __init__(self, model: StoredModel, **arguments: Unpack[ImageClassificationArguments]) -> None:
        super().__init__(model, **arguments)
        named = model.read_json("config.json").get("id2label") or {}
        self.labels = {int(index): str(label) for index, label in named.items()}

    def __call__(self, inputs: Images, **options: Unpack[ImageClassificationOptions]) -> Any:
        """Labels, best first, with their scores.

        Args:
            inputs: a picture (path, bytes, PIL image or array), or several.
            options: see :class:`ImageClassificationOptions`.

        Returns:
            ``[{"label": str, "score": float}]``, and a list of such lists for several pictures.

        Raises:
            InputError: an input cannot be read as a picture.
            UsageError: an unknown or invalid option.
        """
        return super().__call__(inputs, **options)

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Check ``top_k``."""
        check_positive(top_k=options.get("top_k"))
        return options

    def postprocess(self, prepared: PreparedImage, output: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        """The best labels, from the logits [labels]."""
        scores = softmax(output["logits"].astype(np.float32))
        best = np.argsort(-scores, kind="stable")[: options.get("top_k") or 5]
        return [{"label": self.labels.get(int(i), f"LABEL_{i}"), "score": float(scores[i])} for i in best]

    def render(self, answer: Any) -> list[AnswerRow]:
        """A line for each label."""
        return [AnswerRow(entry["label"], entry["score"]) for entry in answer]
