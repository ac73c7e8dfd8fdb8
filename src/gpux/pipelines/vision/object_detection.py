"""Objects in pictures with their boxes, as ``transformers.pipeline("object-detection")`` of 4.57 answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Unpack

import numpy as np
from PIL import Image

from gpux.model.variant import StoredModel
from gpux.pipelines.base import AnswerRow
from gpux.pipelines.options import CallOptions, Option
from gpux.pipelines.vision import boxes as located
from gpux.pipelines.vision.base import ImageOpenOptions, Images
from gpux.pipelines.vision.drawing import draw_boxes
from gpux.pipelines.vision.locating import LocatingPipeline
from gpux.processors.image.load import ImageInput
from gpux.processors.image.processor import PreparedImage
from gpux.runtime.numeric import sigmoid, softmax

Floats = located.Floats
THRESHOLD = 0.5
#: Objects of one picture at most, with scores of all classes of a query.
_MOST = 100


class ObjectDetectionOptions(CallOptions, total=False):
    """Options of object-detection."""

    threshold: Annotated[float, Option("lowest score of an object in an answer", default=THRESHOLD)]


class ObjectDetectionArguments(ObjectDetectionOptions, ImageOpenOptions, total=False):
    """Keywords of :class:`ObjectDetectionPipeline`."""


class ObjectDetectionPipeline(LocatingPipeline):
    """Objects with labels, scores and boxes. The image processor's class decides how the outputs are read.

    >>> detect = ObjectDetectionPipeline(model)
    >>> detect("street.jpg", threshold=0.9)
    [{'score': 0.98, 'label': 'car', 'box': {'xmin': 12, 'ymin': 40, 'xmax': 98, 'ymax': 77}}]
    """

    task: ClassVar[str] = "object-detection"
    call_options: ClassVar[type] = ObjectDetectionOptions
    outputs = ("logits", "pred_boxes")

    def __init__(self, model: StoredModel, **arguments: Unpack[ObjectDetectionArguments]) -> None:
        super().__init__(model, **arguments)
        self._check_model(_CHOOSE, self.outputs)
        self._choose = _CHOOSE[self.processor.class_name]

    def __call__(self, inputs: Images, **options: Unpack[ObjectDetectionOptions]) -> Any:
        """Objects with their boxes.

        Args:
            inputs: a picture (path, bytes, PIL image or array), or several.
            options: see :class:`ObjectDetectionOptions`.

        Returns:
            ``[{"score": float, "label": str, "box": {"xmin": int, "ymin": int, "xmax": int, "ymax": int}}]``, and a
            list of such lists for several pictures. Boxes are in pixels of the picture.

        Raises:
            InputError: an input cannot be read as a picture.
            UsageError: an unknown or invalid option.
        """
        return super().__call__(inputs, **options)

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Check ``threshold``."""
        located.check_share(threshold=options.get("threshold"))
        return options

    def postprocess(self, prepared: PreparedImage, output: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        """Objects, from logits [queries, classes] and boxes [queries, 4]."""
        threshold = options.get("threshold")
        least = np.float32(THRESHOLD if threshold is None else threshold)
        scores, classes, queries = self._choose(output["logits"].astype(np.float32))
        kept = scores > least
        found = located.corners(output["pred_boxes"], prepared.original)[queries[kept]]
        return [
            {"score": float(score), "label": self.labels[index], "box": located.box(numbers)}
            for score, index, numbers in zip(scores[kept], classes[kept], found, strict=True)
        ]

    def render(self, answer: Any) -> list[AnswerRow]:
        """A line for each object."""
        return [AnswerRow(*row) for row in located.label_rows(answer)]

    def picture(self, inputs: ImageInput, answer: Any) -> Image.Image:
        """The picture with the boxes of an answer, their labels and scores."""
        return draw_boxes(self.open_image(inputs), answer)


def _best_class(logits: Floats) -> tuple[Floats, Any, Any]:
    """The best class of each query, in the order of queries; the last class stands for no object."""
    scores = softmax(logits)[:, :-1]
    return scores.max(axis=1), scores.argmax(axis=1), np.arange(len(scores))


def _best_pairs(most: int | None) -> Any:
    """The best pairs of a query and a class, of which a query may have several.

    Args:
        most: pairs at most; None: as many as queries.
    """

    def choose(logits: Floats) -> tuple[Floats, Any, Any]:
        scores = sigmoid(logits).reshape(-1)
        places = located.best(scores, len(logits) if most is None else most)
        return scores[places], places % logits.shape[1], places // logits.shape[1]

    return choose


#: Class of the image processor -> score, class and query of each candidate, from logits [queries, classes]; the
#: functions ``post_process_object_detection`` of transformers 4.57.
_CHOOSE = {
    "DetrImageProcessor": _best_class,
    "YolosImageProcessor": _best_class,
    "ConditionalDetrImageProcessor": _best_pairs(_MOST),
    "DeformableDetrImageProcessor": _best_pairs(_MOST),
    "RTDetrImageProcessor": _best_pairs(None),
}
