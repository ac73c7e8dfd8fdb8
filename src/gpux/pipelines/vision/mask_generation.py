"""Masks of what lies at given points of a picture, or of everything in it, as SAM of transformers 4.57 finds them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Unpack

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gpux.errors import InputError, UnsupportedError, UsageError
from gpux.model.variant import StoredModel
from gpux.pipelines.base import AnswerRow, check_positive
from gpux.pipelines.options import CallOptions, Option
from gpux.pipelines.vision.base import ImageOpenOptions, Images
from gpux.pipelines.vision.boxes import check_share
from gpux.pipelines.vision.drawing import draw_masks
from gpux.pipelines.vision.interpolation import bilinear
from gpux.pipelines.vision.locating import LocatingPipeline
from gpux.pipelines.vision.pictures import grey_png
from gpux.processors.image.load import ImageInput, is_image_input
from gpux.processors.image.processor import PreparedImage

Floats = NDArray[np.float32]
Points = Sequence[Sequence[float]] | Sequence[Sequence[Sequence[float]]]
Kinds = Sequence[int] | Sequence[Sequence[int]]
_ENCODER, _DECODER = "vision_encoder", "prompt_encoder_mask_decoder"
_KNOWN = ("SamImageProcessor",)
_EMBEDDINGS = ("image_embeddings", "image_positional_embeddings")
PER_RUN, PER_SIDE = 64, 32


class MaskGenerationOptions(CallOptions, total=False):
    """Options of mask-generation."""

    input_points: Annotated[
        Points | None,
        Option("x and y of points of an object, or such a list for each object; by default a grid finds every object"),
    ]
    input_labels: Annotated[Kinds | None, Option("for each point, 1 within the object or 0 outside; by default 1")]
    mask_threshold: Annotated[float, Option("lowest logit of a pixel within a mask", default=0.0)]
    points_per_crop: Annotated[int, Option("points of a side of the grid", default=PER_SIDE)]
    points_per_batch: Annotated[int, Option("points of one run", default=PER_RUN)]
    pred_iou_thresh: Annotated[float, Option("lowest score of a mask of the grid", default=0.88)]
    stability_score_thresh: Annotated[float, Option("lowest stability of a mask of the grid", default=0.95)]
    stability_score_offset: Annotated[float, Option("change of the threshold that stability is about", default=1.0)]
    crops_nms_thresh: Annotated[float, Option("overlap of the boxes of two masks of which one is dropped", default=0.7)]


class MaskGenerationArguments(MaskGenerationOptions, ImageOpenOptions, total=False):
    """Keywords of :class:`MaskGenerationPipeline`."""


@dataclass(frozen=True)
class _Prepared:
    image: PreparedImage
    points: Floats | None  #: [objects, points, 2] in pixels of the picture; None: a grid
    kinds: NDArray[np.int64] | None  #: [objects, points]

    @property
    def inputs(self) -> Mapping[str, NDArray[Any]]:
        """What the graph reads of the picture."""
        return self.image.inputs


class MaskGenerationPipeline(LocatingPipeline):
    """Masks by SAM: of what lies at given points, or of everything in a picture.

    >>> cut = MaskGenerationPipeline(model)
    >>> cut("cat.jpg", input_points=[[120, 80]])["masks"][0].shape
    (480, 640)
    """

    task: ClassVar[str] = "mask-generation"
    call_options: ClassVar[type] = MaskGenerationOptions
    input_keys: ClassVar[Sequence[str]] = ("image", "input_points", "input_labels")
    outputs = _EMBEDDINGS

    def __init__(self, model: StoredModel, **arguments: Unpack[MaskGenerationArguments]) -> None:
        super().__init__(model, **arguments)
        named = {graph.name for graph in model.manifest.graphs}
        if missing := {_ENCODER, _DECODER} - named:
            raise UnsupportedError(
                f"{model.id} has no graph {' and '.join(sorted(missing))}, which {self.task} needs",
                hint=f"Convert the original weights with `gpux convert {model.id} --task {self.task}`.",
                model=model.id,
            )
        self.session = self.graphs.session(_ENCODER)
        self._decoder = self.graphs.session(_DECODER)
        self._check_model(_KNOWN, self.outputs)

    def __call__(
        self,
        inputs: Images | Mapping[str, Any] | Sequence[Mapping[str, Any]],
        **options: Unpack[MaskGenerationOptions],
    ) -> Any:
        """Masks with their scores.

        Args:
            inputs: a picture (path, bytes, PIL image or array), or a dict of an ``image`` with its ``input_points`` and
                ``input_labels``; or several.
            options: see :class:`MaskGenerationOptions`.

        Returns:
            ``{"masks": [bool array [height, width]], "scores": float32 array [masks]}``, and a list of such answers for
            several pictures. With points, the best mask of each object, in their order; otherwise those of everything
            that the grid finds, best first.

        Raises:
            InputError: an input cannot be read as a picture, or points are not in it.
            UsageError: an unknown or invalid option.
        """
        return super().__call__(inputs, **options)

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """The options with their defaults, checked."""
        defaults = {spec.name: spec.default for spec in self.options()}
        found = {**defaults, **{name: value for name, value in options.items() if value is not None}}
        check_share(**{name: found[name] for name in ("stability_score_thresh", "crops_nms_thresh")})
        check_positive(points_per_crop=found["points_per_crop"], points_per_batch=found["points_per_batch"])
        if found["input_labels"] is not None and found["input_points"] is None:
            raise UsageError("input_labels needs input_points", hint="Give the points that the labels are of.")
        return found

    def preprocess(self, inputs: Any, options: Mapping[str, Any]) -> Sequence[_Prepared]:
        """The arrays of each picture, and its points."""
        items = [inputs] if is_image_input(inputs) or isinstance(inputs, Mapping) else list(inputs)
        named = [item if isinstance(item, Mapping) else {"image": item} for item in items]
        for index, item in enumerate(named):
            if "image" not in item:
                raise InputError(f"input {index} is a dict without the key image", index=index)
        images = super().preprocess([item["image"] for item in named], options)
        return [
            self._with_points(image, {**options, **item}, index)
            for index, (image, item) in enumerate(zip(images, named, strict=True))
        ]

    def postprocess(self, prepared: _Prepared, output: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        """Masks, from the embeddings of the picture; the decoder runs here, on some points at a time."""
        if prepared.points is None or prepared.kinds is None:
            return self._everything(prepared.image, output, options)
        masks, scores = [], []
        for found, sure in self._decoded(prepared.image, output, prepared.points, prepared.kinds, PER_RUN):
            for candidates, each in zip(found, sure, strict=True):
                best = int(each.argmax())
                masks.append(self._whole(candidates[best], prepared.image) > options["mask_threshold"])
                scores.append(each[best])
        return {"masks": masks, "scores": np.array(scores, dtype=np.float32)}

    def to_json(self, answer: Any) -> Any:
        """Each mask as a PNG file in base64, and the scores as a list."""
        return {
            "masks": [grey_png(Image.fromarray(mask.astype(np.uint8) * np.uint8(255))) for mask in answer["masks"]],
            "scores": [float(score) for score in answer["scores"]],
        }

    def render(self, answer: Any) -> list[AnswerRow]:
        """A line for each mask."""
        return [AnswerRow(f"mask {place}", float(score)) for place, score in enumerate(answer["scores"])]

    def picture(self, inputs: ImageInput | Mapping[str, Any], answer: Any) -> Image.Image:
        """The picture with the masks of an answer in colours."""
        image = self.open_image(inputs["image"] if isinstance(inputs, Mapping) else inputs)
        return draw_masks(image, [{"mask": mask} for mask in answer["masks"]])

    def _with_points(self, image: PreparedImage, options: Mapping[str, Any], index: int) -> _Prepared:
        if options["input_points"] is None:
            return _Prepared(image, None, None)
        points, kinds = _prompts(options["input_points"], options["input_labels"], index)
        height, width = image.original
        if not ((points >= 0).all() and (points <= (width, height)).all()):
            raise InputError(
                f"picture {index} is {width} x {height}, and a point is outside of it",
                hint="Write points as x and y in pixels.",
                index=index,
            )
        return _Prepared(image, points, kinds)

    def _everything(self, image: PreparedImage, embeddings: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        """The masks of a grid of points that are sure, stable, and not of a box that a better one has."""
        height, width = image.original
        side = options["points_per_crop"]
        places = np.linspace(1 / (2 * side), 1 - 1 / (2 * side), side)
        grid = np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 1, 2) * (width, height)
        kinds = np.ones(grid.shape[:2], dtype=np.int64)
        least, offset = options["mask_threshold"], options["stability_score_offset"]
        masks, scores = [], []
        for found, sure in self._decoded(image, embeddings, grid, kinds, options["points_per_batch"]):
            for object_, candidate in np.argwhere(_above(sure, options["pred_iou_thresh"])):
                logits = self._whole(found[object_, candidate], image)
                outer = int((logits > least - offset).sum())
                stability = np.float32(int((logits > least + offset).sum())) / np.float32(outer) if outer else 0.0
                if options["stability_score_thresh"] <= 0 or stability > np.float32(options["stability_score_thresh"]):
                    masks.append(logits > least)
                    scores.append(sure[object_, candidate])
        kept = _distinct([_box(mask) for mask in masks], scores, options["crops_nms_thresh"])
        return {"masks": [masks[place] for place in kept], "scores": np.array([scores[place] for place in kept])}

    def _decoded(
        self, image: PreparedImage, embeddings: Mapping[str, Any], points: Any, kinds: Any, count: int
    ) -> Iterator[tuple[Floats, Floats]]:
        """Logits [objects, candidates, height, width] and scores [objects, candidates], some objects at a time."""
        size = image.resized or image.size
        scale = np.array([size[1] / image.original[1], size[0] / image.original[0]])
        given = {name: embeddings[name][None] for name in _EMBEDDINGS}
        for start in range(0, len(points), count):
            some = slice(start, start + count)
            feed = {
                "input_points": (points[some] * scale).astype(np.float32)[None],
                "input_labels": np.asarray(kinds[some], dtype=np.int64)[None],
                **given,
            }
            found = self._decoder.run(feed, ["pred_masks", "iou_scores"])
            yield found["pred_masks"][0].astype(np.float32), found["iou_scores"][0].astype(np.float32)

    def _whole(self, logits: Floats, image: PreparedImage) -> Floats:
        """Logits [height, width] of the picture, from those of the padded one."""
        height, width = image.resized or image.size
        return bilinear(bilinear(logits, image.size)[:height, :width], image.original)


def _above(scores: Floats, threshold: float) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = scores > (np.float32(threshold) if threshold > 0 else -np.inf)
    return found


def _prompts(points: Any, kinds: Any, index: int) -> tuple[Floats, NDArray[np.int64]]:
    """Points [objects, points, 2] and their kinds [objects, points].

    Raises:
        InputError: they have another form.
    """
    hint = "Write points as [[x, y], …], or as a list of such lists, and a label 0 or 1 for each."
    try:
        objects = [np.asarray(one, dtype=np.float32) for one in points]
        if objects and all(one.ndim == 1 for one in objects):
            objects, kinds = [np.stack(objects)], None if kinds is None else [kinds]
        given = [np.ones(len(one)) for one in objects] if kinds is None else [np.asarray(one) for one in kinds]
        found, named = np.stack(objects), np.stack(given)
    except (TypeError, ValueError) as exc:
        message = f"picture {index}: input_points are not as many points for each object"
        raise InputError(message, hint=hint, index=index) from exc
    if found.ndim != 3 or found.shape[-1] != 2 or not found.size or named.shape != found.shape[:2]:
        shapes = f"have the shapes {found.shape} and {named.shape}"
        raise InputError(f"picture {index}: input_points and input_labels {shapes}", hint=hint, index=index)
    if not np.isin(named, (0, 1)).all():
        raise InputError(f"picture {index}: input_labels has others than 0 and 1", hint=hint, index=index)
    return found, named.astype(np.int64)


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom pixel of a mask; zeros of an empty one."""
    if not mask.any():
        return 0, 0, 0, 0
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def _distinct(boxes: Sequence[tuple[int, int, int, int]], scores: Sequence[Any], threshold: float) -> list[int]:
    """Places of boxes, best first, without those that overlap with a better one by more (non-maximum suppression).

    The overlap is the intersection over the union, with areas as ``torchvision.ops.nms`` computes them.
    """
    left, top, right, bottom = np.array(boxes, dtype=np.float32).reshape(-1, 4).T
    areas = (right - left) * (bottom - top)
    waiting = np.argsort(-np.array(scores, dtype=np.float32), kind="stable")
    kept = []
    while len(waiting):
        best, others = int(waiting[0]), waiting[1:]
        kept.append(best)
        wide = np.maximum(0, np.minimum(right[best], right[others]) - np.maximum(left[best], left[others]))
        tall = np.maximum(0, np.minimum(bottom[best], bottom[others]) - np.maximum(top[best], top[others]))
        union = areas[best] + areas[others] - wide * tall
        overlap = np.divide(wide * tall, union, out=np.zeros_like(union), where=union > 0)
        waiting = others[~(overlap > np.float32(threshold))]
    return kept
