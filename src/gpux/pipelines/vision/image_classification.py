"""Labels of pictures, as ``transformers.pipeline("image-classification")`` of 4.57 answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Unpack

import numpy as np

from gpux.model.variant import StoredModel
from gpux.pipelines.base import AnswerRow, check_positive
from gpux.pipelines.labels import Function, check_width, find_function, read_labels
from gpux.pipelines.options import CallOptions, Option
from gpux.pipelines.vision.base import ImageOpenOptions, ImagePipeline, Images
from gpux.processors.image.processor import PreparedImage

_TOP_K = 5


class ImageClassificationOptions(CallOptions, total=False):
    """Options of image-classification."""

    top_k: Annotated[int | None, Option("labels in an answer", default=_TOP_K)]
    function_to_apply: Annotated[
        Literal["softmax", "sigmoid", "none"] | None,
        Option("from logits to scores; by default as the model's configuration implies"),
    ]


class ImageClassificationArguments(ImageClassificationOptions, ImageOpenOptions, total=False):
    """Keywords of :class:`ImageClassificationPipeline`."""


@dataclass(frozen=True)
class _Resolved:
    function: Function
    top_k: int


class ImageClassificationPipeline(ImagePipeline):
    """Labels with scores for pictures.

    >>> classify = ImageClassificationPipeline(model)
    >>> classify("cat.jpg", top_k=1)
    [{'label': 'cat', 'score': 0.97}]
    """

    task: ClassVar[str] = "image-classification"
    call_options: ClassVar[type] = ImageClassificationOptions

    def __init__(self, model: StoredModel, **arguments: Unpack[ImageClassificationArguments]) -> None:
        super().__init__(model, **arguments)
        config = model.read_json("config.json")
        self.labels = read_labels(config)  #: in the order of the scores
        logits = self._score_output()
        self.outputs = (logits,)
        check_width(model.id, next(spec for spec in self.session.outputs if spec.name == logits), len(self.labels))
        several = config.get("problem_type") == "multi_label_classification" or len(self.labels) == 1
        self._function = "sigmoid" if several else "softmax"

    def __call__(self, inputs: Images, **options: Unpack[ImageClassificationOptions]) -> Any:
        """Labels, best first, with their scores.

        Args:
            inputs: a picture (path, bytes, PIL image, or uint8 array [height, width, channels]), or several.
            options: see :class:`ImageClassificationOptions`.

        Returns:
            ``[{"label": str, "score": float}]``, and a list of such lists for several pictures.

        Raises:
            InputError: an input cannot be read as a picture; ``index`` is its place.
            UsageError: an unknown option, or ``top_k`` or ``function_to_apply`` is invalid.
        """
        return super().__call__(inputs, **options)

    def resolve(self, options: Mapping[str, Any]) -> _Resolved:
        """Check ``top_k`` and look the function up."""
        check_positive(top_k=options.get("top_k"))
        return _Resolved(
            find_function(options.get("function_to_apply"), self._function), options.get("top_k") or _TOP_K
        )

    def postprocess(self, prepared: PreparedImage, output: Mapping[str, Any], options: _Resolved) -> Any:
        """The best labels, from the logits [labels]."""
        (logits,) = output.values()
        scores = options.function(logits.astype(np.float32, copy=False))
        best = np.argsort(-scores, kind="stable")[: options.top_k]
        return [{"label": self.labels[int(index)], "score": float(scores[index])} for index in best]

    def render(self, answer: Any) -> list[AnswerRow]:
        """A line for each label."""
        return [AnswerRow(entry["label"], entry["score"]) for entry in answer]
