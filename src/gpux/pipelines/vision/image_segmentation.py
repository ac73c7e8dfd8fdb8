"""Segments of pictures, as ``transformers.pipeline("image-segmentation")`` of 4.57 answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Unpack

import numpy as np
from PIL import Image

from gpux.errors import UsageError
from gpux.model.variant import StoredModel
from gpux.pipelines.base import AnswerRow
from gpux.pipelines.options import CallOptions, Option
from gpux.pipelines.vision.base import ImageOpenOptions, Images
from gpux.pipelines.vision.boxes import check_share
from gpux.pipelines.vision.drawing import draw_masks
from gpux.pipelines.vision.locating import LocatingPipeline
from gpux.pipelines.vision.pictures import grey_png
from gpux.pipelines.vision.segments import (
    Queries,
    Segment,
    class_scores,
    enlarged,
    instances,
    panoptic,
    semantic,
)
from gpux.processors.image.load import ImageInput
from gpux.processors.image.processor import PreparedImage

Subtask = Literal["semantic", "instance", "panoptic"]
THRESHOLD, MASK_THRESHOLD, OVERLAP = 0.9, 0.5, 0.5


class ImageSegmentationOptions(CallOptions, total=False):
    """Options of image-segmentation."""

    subtask: Annotated[Subtask | None, Option("kind of segments; by default panoptic where the model has it")]
    threshold: Annotated[float, Option("lowest score of a segment; not for semantic", default=THRESHOLD)]
    mask_threshold: Annotated[float, Option("lowest value of a pixel within a mask", default=MASK_THRESHOLD)]
    overlap_mask_area_threshold: Annotated[
        float, Option("share of a mask that no better one covers, below which it is dropped", default=OVERLAP)
    ]


class ImageSegmentationArguments(ImageSegmentationOptions, ImageOpenOptions, total=False):
    """Keywords of :class:`ImageSegmentationPipeline`."""


@dataclass(frozen=True)
class _Family:
    """How the outputs of models with one class of image processors are read."""

    subtasks: tuple[Subtask, ...]  #: the first one is the default
    outputs: tuple[str, ...]  #: logits of classes, and of masks where the model has queries
    mask_size: tuple[int, int] | None = None  #: masks are enlarged to this first


_PIXELS = _Family(("semantic",), ("logits",))
_EVERY: tuple[Subtask, ...] = ("panoptic", "instance", "semantic")
_DETR = _Family(_EVERY, ("logits", "pred_masks"))
_QUERIES = ("class_queries_logits", "masks_queries_logits")
_FAMILIES = {
    "BeitImageProcessor": _PIXELS,
    "DPTImageProcessor": _PIXELS,
    "MobileNetV2ImageProcessor": _PIXELS,
    "MobileViTImageProcessor": _PIXELS,
    "SegformerImageProcessor": _PIXELS,
    "DetrImageProcessor": _DETR,
    "ConditionalDetrImageProcessor": _DETR,
    "MaskFormerImageProcessor": _Family(_EVERY, _QUERIES),
    "Mask2FormerImageProcessor": _Family(_EVERY, _QUERIES, mask_size=(384, 384)),
}


class ImageSegmentationPipeline(LocatingPipeline):
    """Segments with labels and masks: of each class (semantic), of each object (instance), or of both (panoptic).

    >>> segment = ImageSegmentationPipeline(model)
    >>> segment("street.jpg")
    [{'score': None, 'label': 'road', 'mask': <PIL.Image.Image image mode=L size=640x480>}]
    """

    task: ClassVar[str] = "image-segmentation"
    call_options: ClassVar[type] = ImageSegmentationOptions

    def __init__(self, model: StoredModel, **arguments: Unpack[ImageSegmentationArguments]) -> None:
        super().__init__(model, **arguments)
        family = _FAMILIES.get(self.processor.class_name, _PIXELS)
        self._check_model(_FAMILIES, family.outputs)
        self._family, self.outputs = family, family.outputs

    @property
    def subtasks(self) -> tuple[Subtask, ...]:
        """The subtasks of this model, the default one first."""
        return self._family.subtasks

    def __call__(self, inputs: Images, **options: Unpack[ImageSegmentationOptions]) -> Any:
        """Segments with their masks.

        Args:
            inputs: a picture (path, bytes, PIL image or array), or several.
            options: see :class:`ImageSegmentationOptions`.

        Returns:
            ``[{"score": float or None, "label": str, "mask": PIL image}]``, and a list of such lists for several
            pictures. A mask has the size of the picture, mode L, 255 inside and 0 outside; a semantic segment has no
            score.

        Raises:
            InputError: an input cannot be read as a picture.
            UsageError: an unknown or invalid option, or a subtask that the model does not have.
        """
        return super().__call__(inputs, **options)

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """The options with their defaults, checked."""
        shares = {
            "threshold": _or(options.get("threshold"), THRESHOLD),
            "mask_threshold": _or(options.get("mask_threshold"), MASK_THRESHOLD),
            "overlap_mask_area_threshold": _or(options.get("overlap_mask_area_threshold"), OVERLAP),
        }
        check_share(**shares)
        subtask = options.get("subtask") or self.subtasks[0]
        if subtask not in self.subtasks:
            raise UsageError(
                f"subtask is {subtask!r}, and {self.model.id} has {', '.join(self.subtasks)}",
                hint=f"Leave it out, or write subtask={self.subtasks[0]!r}.",
            )
        return {**options, **shares, "subtask": subtask}

    def postprocess(self, prepared: PreparedImage, output: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        """Segments, from logits [classes, height, width], or of queries [queries, classes] and masks."""
        return [
            {
                "score": segment.score,
                "label": self.labels[segment.label],
                "mask": Image.fromarray(segment.mask.astype(np.uint8) * np.uint8(255)),
            }
            for segment in self._segments(output, prepared.original, options)
        ]

    def _segments(self, output: Mapping[str, Any], size: tuple[int, int], options: Mapping[str, Any]) -> list[Segment]:
        family, logits = self._family, [output[name].astype(np.float32) for name in self._family.outputs]
        if len(logits) == 1:
            return semantic(logits[0], size)
        found = Queries(*logits)
        if family.mask_size is not None:
            found = enlarged(found, family.mask_size)
        if options["subtask"] == "semantic":
            return semantic(class_scores(found), size)
        shares = {
            "threshold": options["threshold"],
            "mask_threshold": options["mask_threshold"],
            "overlap": options["overlap_mask_area_threshold"],
        }
        if options["subtask"] == "panoptic" or family is _DETR:
            return panoptic(found, size, **shares)
        return instances(found, size, threshold=options["threshold"])

    def to_json(self, answer: Any) -> Any:
        """The segments with each mask as a PNG file in base64."""
        return [{**segment, "mask": grey_png(segment["mask"])} for segment in answer]

    def render(self, answer: Any) -> list[AnswerRow]:
        """A line for each segment."""
        return [AnswerRow(segment["label"], segment["score"]) for segment in answer]

    def picture(self, inputs: ImageInput, answer: Any) -> Image.Image:
        """The picture with the masks of an answer in colours, and their labels."""
        return draw_masks(self.open_image(inputs), answer)


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
