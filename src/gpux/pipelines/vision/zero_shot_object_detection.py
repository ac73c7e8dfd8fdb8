"""Objects that a call names, as ``transformers.pipeline("zero-shot-object-detection")`` of 4.57 finds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Unpack

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gpux.errors import InputError, UsageError
from gpux.model.variant import StoredModel
from gpux.pipelines.base import AnswerRow, Parts, check_positive
from gpux.pipelines.batching import BatchBudget, arrives
from gpux.pipelines.options import CallOptions, Option
from gpux.pipelines.text.tokenization import Tokenizer
from gpux.pipelines.vision import boxes as located
from gpux.pipelines.vision.base import ImageOpenOptions, Images, run_images
from gpux.pipelines.vision.drawing import draw_boxes
from gpux.pipelines.vision.locating import LocatingPipeline
from gpux.processors.image.load import ImageInput, is_image_input
from gpux.processors.image.processor import PreparedImage
from gpux.runtime.numeric import sigmoid
from gpux.runtime.session import Session
from gpux.runtime.token_inputs import Padded, TokenInputs

THRESHOLD = 0.1
_TEXTS = ("input_ids", "attention_mask")
#: Class of the image processor -> whether it pads pictures to a square, of which boxes are shares.
_SQUARE = {"OwlViTImageProcessor": False, "Owlv2ImageProcessor": True}


class ZeroShotObjectDetectionKeywords(CallOptions, total=False):
    """Options of zero-shot-object-detection that a call gives by name only."""

    threshold: Annotated[float, Option("lowest score of an object in an answer", default=THRESHOLD)]
    top_k: Annotated[int | None, Option("objects in an answer; by default all above the threshold")]


class ZeroShotObjectDetectionOptions(ZeroShotObjectDetectionKeywords, total=False):
    """Options of zero-shot-object-detection."""

    candidate_labels: Annotated[Sequence[str] | str, Option("the labels: a list, or separated by commas")]


class ZeroShotObjectDetectionArguments(ZeroShotObjectDetectionOptions, ImageOpenOptions, total=False):
    """Keywords of :class:`ZeroShotObjectDetectionPipeline`."""


@dataclass(frozen=True)
class _Part:
    """Labels of one picture whose texts have equally many tokens; they run together and need no padding."""

    image: PreparedImage
    labels: Sequence[int]  #: their places among those of the picture
    texts: Mapping[str, NDArray[Any]]  #: what the graph reads of them, [labels, tokens]


@dataclass(frozen=True)
class _Prepared(Parts):
    labels: Sequence[str] = field(kw_only=True)
    size: tuple[int, int] = field(kw_only=True)  #: height and width of what boxes are shares of


class ZeroShotObjectDetectionPipeline(LocatingPipeline):
    """Objects that are named in the call, with scores and boxes, by OWL-ViT or OWLv2.

    >>> detect = ZeroShotObjectDetectionPipeline(model)
    >>> detect("street.jpg", candidate_labels=["a traffic light", "dog"])
    [{'score': 0.61, 'label': 'a traffic light', 'box': {'xmin': 12, 'ymin': 40, 'xmax': 28, 'ymax': 77}}]
    """

    task: ClassVar[str] = "zero-shot-object-detection"
    call_options: ClassVar[type] = ZeroShotObjectDetectionOptions
    budget: ClassVar[BatchBudget] = BatchBudget(cpu_per_thread=1, one_thread=1, device=1)
    input_keys: ClassVar[Sequence[str]] = ("image", "candidate_labels")
    outputs = ("logits", "pred_boxes")

    def __init__(self, model: StoredModel, **arguments: Unpack[ZeroShotObjectDetectionArguments]) -> None:
        super().__init__(model, **arguments)
        self._check_model(_SQUARE, self.outputs, ("pixel_values", *_TEXTS))
        self.tokenizer = Tokenizer(model)
        specs = [spec for spec in self.session.inputs if spec.name in _TEXTS]
        self._texts = TokenInputs(specs, model.read_json("config.json"))

    def __call__(
        self,
        inputs: Images | Mapping[str, Any] | Sequence[Mapping[str, Any]],
        candidate_labels: Sequence[str] | Sequence[Sequence[str]] | str | None = None,
        **options: Unpack[ZeroShotObjectDetectionKeywords],
    ) -> Any:
        """Objects with their boxes, best first.

        Args:
            inputs: a picture (path, bytes, PIL image or array), or ``{"image": …, "candidate_labels": […]}``; or
                several.
            candidate_labels: what to look for; a list of lists has the labels of each of several pictures.
            options: see :class:`ZeroShotObjectDetectionOptions`.

        Returns:
            ``[{"score": float, "label": str, "box": {"xmin": int, "ymin": int, "xmax": int, "ymax": int}}]``, and a
            list of such lists for several pictures. Boxes are in pixels of the picture.

        Raises:
            InputError: an input cannot be read as a picture, or a label has too many tokens.
            UsageError: no labels, or an unknown or invalid option.
        """
        if candidate_labels is None:
            return super().__call__(inputs, **options)
        if _is_by_picture(inputs, candidate_labels):
            paired = zip(inputs, candidate_labels, strict=True)  # type: ignore[arg-type]  # both are lists
            return super().__call__([{"image": image, "candidate_labels": names} for image, names in paired], **options)
        if arrives(inputs):
            return self(inputs, candidate_labels=candidate_labels, **options)  # by name: answers come one by one too
        return super().__call__(inputs, candidate_labels=candidate_labels, **options)

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """The options with their defaults, checked."""
        located.check_share(threshold=options.get("threshold"))
        check_positive(top_k=options.get("top_k"))
        threshold, names = options.get("threshold"), options.get("candidate_labels")
        return {
            **options,
            "threshold": THRESHOLD if threshold is None else threshold,
            "candidate_labels": None if names is None else _labels(names),
        }

    def preprocess(self, inputs: Any, options: Mapping[str, Any]) -> Sequence[_Prepared]:
        """The arrays of each picture, with those of its labels."""
        items = [inputs] if is_image_input(inputs) or isinstance(inputs, Mapping) else list(inputs)
        pairs = [_pair(item, options["candidate_labels"], index) for index, item in enumerate(items)]
        images = super().preprocess([image for image, _ in pairs], options)
        return [self._with_labels(image, labels) for image, (_, labels) in zip(images, pairs, strict=True)]

    def forward(self, batch: Sequence[_Part], session: Session) -> Sequence[dict[str, NDArray[Any]]]:
        """Logits [patches, labels] and boxes [patches, 4] of each picture with some of its labels."""
        return [run_images([part.image.inputs], session, self.outputs, shared=part.texts)[0] for part in batch]

    def postprocess(self, prepared: _Prepared, output: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> Any:
        """Objects, from logits [patches, labels] and boxes [patches, 4] of each part."""
        least = np.float32(options["threshold"])
        found: list[list[dict[str, Any]]] = [[] for _ in prepared.labels]
        for part, given in zip(prepared.parts, output, strict=True):
            corners = located.corners(given["pred_boxes"], prepared.size)
            for place, logits in zip(part.labels, given["logits"].astype(np.float32).T, strict=True):
                scores = sigmoid(logits)
                found[place] = [
                    {"score": float(scores[at]), "label": prepared.labels[place], "box": located.box(corners[at])}
                    for at in np.flatnonzero((scores > least) & (scores != 0))
                ]
        ranked = sorted((entry for entries in found for entry in entries), key=lambda entry: -entry["score"])
        return ranked[: options.get("top_k")]

    def render(self, answer: Any) -> list[AnswerRow]:
        """A line for each object."""
        return [AnswerRow(*row) for row in located.label_rows(answer)]

    def picture(self, inputs: ImageInput | Mapping[str, Any], answer: Any) -> Image.Image:
        """The picture with the boxes of an answer, their labels and scores."""
        return draw_boxes(self.open_image(inputs["image"] if isinstance(inputs, Mapping) else inputs), answer)

    def _with_labels(self, image: PreparedImage, labels: Sequence[str]) -> _Prepared:
        limit = self.tokenizer.hard_limit if self._texts.length is None else self._texts.length
        texts = self.tokenizer(labels, limit=None, truncation=False)
        for label, text in zip(labels, texts, strict=True):
            if limit is not None and len(text) > limit:
                message = f"the label {label!r} has {len(text)} tokens, and {self.model.id} reads {limit}"
                raise InputError(message, hint="Shorten it.", tokens=len(text), limit=limit)
        lengths: dict[int, list[int]] = {}
        for place, text in enumerate(texts):
            lengths.setdefault(len(text), []).append(place)
        parts = []
        for places in lengths.values():
            ids = np.array([texts[place].ids for place in places], dtype=np.int64)
            parts.append(_Part(image, places, self._texts.feed(Padded(ids, np.ones_like(ids), np.zeros_like(ids)))))
        side = max(image.original)
        square = _SQUARE[self.processor.class_name]
        return _Prepared(parts, labels=labels, size=(side, side) if square else image.original)


def _pair(item: Any, labels: Sequence[str] | None, index: int) -> tuple[Any, Sequence[str]]:
    """A picture and its labels."""
    if isinstance(item, Mapping):
        if "image" not in item:
            raise InputError(f"input {index} is a dict without the key image", index=index)
        named = item.get("candidate_labels")
        item, labels = item["image"], labels if named is None else _labels(named)
    if labels is None:
        raise UsageError("no labels were given", hint='Give them: candidate_labels=["cat", "dog"].')
    return item, labels


def _labels(given: Any) -> list[str]:
    if isinstance(given, str):
        given = [label.strip() for label in given.split(",") if label.strip()]
    if not isinstance(given, Sequence) or not given:
        raise UsageError("no labels were given", hint='Give them: candidate_labels=["cat", "dog"].')
    for label in given:
        if not isinstance(label, str) or not label:
            raise UsageError(f"candidate_labels has {label!r}, which is not a text", hint="Give texts.")
    return list(given)


def _is_by_picture(inputs: Any, labels: Any) -> bool:
    """Whether labels are lists, one for each of several pictures.

    Raises:
        UsageError: there are more or fewer lists than pictures.
    """
    if isinstance(labels, str) or not isinstance(inputs, (list, tuple)) or not isinstance(labels, Iterable):
        return False
    listed = [isinstance(names, (list, tuple)) for names in labels]
    if not listed or not all(listed):
        return False
    if len(listed) != len(inputs):
        raise UsageError(f"there are {len(inputs)} pictures and {len(listed)} lists of labels")
    return True
