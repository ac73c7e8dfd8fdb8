"""Reference answers of ``transformers.pipeline`` about places in pictures: boxes, segments, depths.

The best class of a box or of a pixel may be nearly as good as another: there, the rounding of another library decides.
So a question counts if its answer stays the same when the outputs of the model are changed by a little; otherwise it is
asked with a higher threshold.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from gpux.convert.answer_case import CALL
from gpux.convert.worker.reference.answers_images import SIZES, picture, pictures
from gpux.convert.worker.reference.answers_inputs import Question
from gpux.convert.worker.reference.answers_library import Opened, Original, floats, jsonable
from gpux.convert.worker.reference.answers_vision import as_pil

#: Change of an output, as a share of its largest magnitude.
NOISE = 2e-5
SEEDS = (1, 2)
#: Options with which a question is asked until its answer has entries and is clear.
OBJECTS = tuple({"threshold": threshold} for threshold in (0.0, 0.02, 0.1, 0.3, 0.5))
SEGMENTS = (
    {"threshold": 0.0, "mask_threshold": 0.5, "overlap_mask_area_threshold": 0.5},
    *(
        {"threshold": threshold, "mask_threshold": 0.05, "overlap_mask_area_threshold": 0.0}
        for threshold in (0.0, 0.02, 0.1, 0.3, 0.5)
    ),
)
#: What such a change may do to an answer: differences of scores and of the sides of boxes, and the overlap of masks.
_SCORE, _PIXELS, _OVERLAP = 2e-3, 1, 0.9995


def open_objects(original: Original) -> Opened:
    """``pipeline("object-detection")``."""
    asker = _Asker(original.open_pipeline(image_processor=original.open_image_processor()))
    return Opened(CALL, list(_on_each_picture(OBJECTS[0])), asker.ask)


def open_named_objects(original: Original) -> Opened:
    """``pipeline("zero-shot-object-detection")``."""
    parts = {"image_processor": original.open_image_processor(), "tokenizer": original.open_tokenizer()}
    asker = _Asker(original.open_pipeline(**parts))
    labels = (["cat", "a remote control"], ["dog"], ["a photo of a street", "car", "sky"])
    questions = [
        Question(f"{height}x{width}", {"image": image, "candidate_labels": names}, {"threshold": 0.0})
        for (height, width), image, names in zip(SIZES, pictures(), labels, strict=True)
    ]
    return Opened(
        CALL, [*questions, replace(questions[0], name="best", options={"threshold": 0.0, "top_k": 3})], asker.ask
    )


def open_segments(original: Original) -> Opened:
    """``pipeline("image-segmentation")``."""
    processor = original.open_image_processor()
    asker = _Asker(original.open_pipeline("image-segmentation", image_processor=processor))
    if not hasattr(processor, "post_process_panoptic_segmentation"):
        return Opened(CALL, list(_on_each_picture({})), asker.ask)
    logging.getLogger(type(processor).__module__).setLevel(logging.ERROR)  # each answer warns of labels to fuse
    first, square, *others = _on_each_picture(SEGMENTS[0])
    kinds = [
        replace(square, name=subtask, options={**square.options, "subtask": subtask})
        for subtask in ("semantic", "instance")
    ]
    return Opened(CALL, [first, *kinds, square, *others], asker.ask)


def open_depths(original: Original) -> Opened:
    """``pipeline("depth-estimation")``."""
    pipe = original.open_pipeline(image_processor=original.open_image_processor())

    def ask(question: Question) -> tuple[Question, Any]:
        found = pipe(as_pil(question.inputs), **question.options)
        several = found if isinstance(found, list) else [found]
        answers = [
            {"predicted_depth": floats(one["predicted_depth"]), "depth": np.asarray(one["depth"])} for one in several
        ]
        return question, answers if isinstance(found, list) else answers[0]

    return Opened(CALL, list(_on_each_picture({})), ask)


def open_points(original: Original) -> Opened:
    """ViTPose's model and image processor; transformers has no pipeline for them."""
    processor, model = original.open_image_processor(), original.model
    names = model.config.id2label

    def ask(question: Question) -> tuple[Question, Any] | None:
        image, boxes = question.inputs["image"], question.inputs["boxes"]
        pixels = processor(as_pil(image), boxes=[boxes], return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            outputs = model(pixels)
        found, *others = (processor.post_process_pose_estimation(each, boxes=[boxes])[0] for each in _changed(outputs))
        for other in others:
            for one, same in zip(found, other, strict=True):
                if not torch.allclose(one["keypoints"], same["keypoints"], rtol=0, atol=_PIXELS / 100):
                    return None
        return question, [
            {
                "box": dict(zip(("xmin", "ymin", "xmax", "ymax"), _corners(box), strict=True)),
                "keypoints": [
                    {"label": names[index], "score": score, "x": x, "y": y}
                    for index, (score, (x, y)) in enumerate(
                        zip(one["scores"].tolist(), one["keypoints"].tolist(), strict=True)
                    )
                ],
            }
            for box, one in zip(boxes, found, strict=True)
        ]

    questions = []
    for (height, width), image in zip(SIZES, pictures(), strict=True):
        for name, boxes in (
            ("whole", [[0.0, 0.0, float(width), float(height)]]),
            ("two", [[3.0, 5.0, width / 2, height / 3], [width / 4, 2.0, width / 5, height / 2]]),
        ):
            questions.append(Question(f"{name}-{height}x{width}", {"image": image, "boxes": boxes}))
    return Opened(CALL, questions, ask)


def open_masks_of_points(original: Original) -> Opened:
    """SAM's model and processor; transformers' pipeline needs torchvision, and has no points of the caller."""
    from transformers import SamProcessor

    processor, model = SamProcessor(original.open_image_processor()), original.model

    def ask(question: Question) -> tuple[Question, Any] | None:
        image = as_pil(question.inputs["image"])
        given = {name: [value] for name, value in question.inputs.items() if name != "image"}
        inputs = processor(image, **given, return_tensors="pt")
        with torch.no_grad():
            outputs = model(**{name: inputs[name] for name in ("pixel_values", "input_points", "input_labels")})
        found, *others = (_best_masks(processor, inputs, each) for each in _changed(outputs))
        for other in others:
            if not all(_overlap(*masks) >= _OVERLAP for masks in zip(found["masks"], other["masks"], strict=True)):
                return None
        return question, found

    questions = []
    for (height, width), image in zip(SIZES, pictures(), strict=True):
        middle, corner = [width / 2, height / 2], [width / 5, height / 4]
        for name, points, labels in (
            ("point", [[middle]], [[1]]),
            ("outside", [[middle, corner]], [[1, 0]]),
            ("objects", [[middle], [corner]], [[1], [1]]),
        ):
            inputs = {"image": image, "input_points": points, "input_labels": labels}
            questions.append(Question(f"{name}-{height}x{width}", inputs))
    return Opened(CALL, questions, ask)


def _changed(outputs: Any) -> tuple[Any, ...]:
    """The outputs of a model, and changed copies of them."""
    return (outputs, *(_noisy(outputs, seed) for seed in SEEDS))


def _best_masks(processor: Any, inputs: Mapping[str, Any], outputs: Any) -> dict[str, Any]:
    """Of each object, the mask with the highest score."""
    sizes = inputs["original_sizes"], inputs["reshaped_input_sizes"]
    masks = processor.image_processor.post_process_masks(outputs.pred_masks, *sizes)[0]
    scores, places = outputs.iou_scores[0].max(dim=-1)
    return {
        "masks": [masks[index, place].numpy() for index, place in enumerate(places.tolist())],
        "scores": floats(scores),
    }


def _corners(box: Sequence[float]) -> tuple[float, float, float, float]:
    left, top, width, height = box
    return left, top, left + width, top + height


def _on_each_picture(options: Mapping[str, Any]) -> Iterator[Question]:
    images = pictures()
    named = {f"{height}x{width}": image for (height, width), image in zip(SIZES, images, strict=True)}
    first, *others = named
    yield Question(first, named[first], options)
    yield Question("square", picture(96, 96), options)  # for graphs that read one size only
    yield from (Question(name, named[name], options) for name in others)
    yield Question("several", images[:2], options)
    yield Question("grey", images[0][:, :, 0], options)


class _Asker:
    """Asks a pipeline for answers that no rounding changes."""

    def __init__(self, pipe: Any) -> None:
        self._pipe, self._answer = pipe, pipe.postprocess
        self._outputs: list[Any] = []
        pipe.postprocess = self._keep

    def ask(self, question: Question) -> tuple[Question, Any] | None:
        """The question with the first options for which its answer is clear, and the answer; None if there are none."""
        self._outputs.clear()
        several = isinstance(question.inputs, list)
        self._pipe(_opened(question.inputs), **question.options)
        for changed in _variants(question.options):
            options = {**question.options, **changed}
            answers = [self._clear(outputs, options) for outputs in self._outputs]
            if all(answers):
                return replace(question, options=options), answers if several else answers[0]
        return None

    def _keep(self, outputs: Any, **options: Any) -> Any:
        self._outputs.append(copy.deepcopy(outputs))
        return self._answer(outputs, **options)

    def _clear(self, outputs: Any, options: Mapping[str, Any]) -> Any:
        """The answer to one picture; None if it has no entries or depends on the rounding of the outputs."""
        _, _, read = self._pipe._sanitize_parameters(**options)
        found = _plain(self._answer(copy.deepcopy(outputs), **read))
        if not found:
            return None
        others = (_plain(self._answer(_noisy(outputs, seed), **read)) for seed in SEEDS)
        return found if all(_alike(found, other) for other in others) else None


def _variants(options: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    if "mask_threshold" in options and options.get("subtask") != "semantic":
        return SEGMENTS
    return OBJECTS if "threshold" in options else ({},)


def _opened(inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return {key: as_pil(value) if isinstance(value, np.ndarray) else value for key, value in inputs.items()}
    return as_pil(inputs)


def _plain(answer: Any) -> Any:
    """An answer with Python's types, whose masks are bool arrays."""
    found = jsonable(answer)
    return [{**one, "mask": one["mask"] > 0} if "mask" in one else one for one in found]


def _noisy(outputs: Any, seed: int) -> Any:
    """A copy of a model's outputs with changed floating-point numbers."""
    if isinstance(outputs, list):
        return [_noisy(inner, seed) for inner in outputs]
    copied = copy.deepcopy(outputs)
    numbers = torch.Generator().manual_seed(seed)
    for name, value in outputs.items():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            size = NOISE * float(value.abs().max()) if value.numel() else 0.0
            copied[name] = value + size * (2 * torch.rand(value.shape, generator=numbers) - 1).to(value.dtype)
    return copied


def _alike(first: list[Any], second: list[Any]) -> bool:
    """Whether two answers have the same entries, in any order."""
    left = list(second)
    for entry in first:
        place = next((index for index, other in enumerate(left) if _same_entry(entry, other)), None)
        if place is None:
            return False
        del left[place]
    return not left


def _same_entry(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    if first["label"] != second["label"] or abs((first["score"] or 0) - (second["score"] or 0)) > _SCORE:
        return False
    if "box" in first:
        return all(abs(side - second["box"][name]) <= _PIXELS for name, side in first["box"].items())
    return _overlap(first["mask"], second["mask"]) >= _OVERLAP


def _overlap(first: Any, second: Any) -> float:
    """Intersection over union of two masks."""
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else 1.0
