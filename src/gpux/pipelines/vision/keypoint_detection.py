"""Points of objects in pictures, such as the joints of a person, as the image processor of ViTPose reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import NoneType
from typing import Annotated, Any, ClassVar, Unpack, cast

import numpy as np
from PIL import Image

from gpux.errors import InputError, UsageError
from gpux.model.variant import StoredModel
from gpux.pipelines.base import AnswerRow, Parts
from gpux.pipelines.options import CallOptions, Option
from gpux.pipelines.vision.base import ImageOpenOptions, Images
from gpux.pipelines.vision.boxes import SIDES, check_share
from gpux.pipelines.vision.drawing import draw_keypoints
from gpux.pipelines.vision.heatmaps import in_picture, peaks
from gpux.pipelines.vision.locating import LocatingPipeline
from gpux.processors.image.keypoints import PoseProcessor
from gpux.processors.image.load import ImageInput, is_image_input

_KNOWN = ("VitPoseImageProcessor",)
#: Pixels of the filter that smooths a heatmap: for a deviation of 2 in training.
KERNEL = 11
#: A box as in the answers of object-detection, or left, top, width and height.
Box = Mapping[str, float] | Sequence[float]


class KeypointDetectionOptions(CallOptions, total=False):
    """Options of keypoint-detection."""

    boxes: Annotated[
        Sequence[Box] | None,
        Option("one for each object, as object-detection gives them; by default the whole picture"),
    ]
    threshold: Annotated[float | None, Option("lowest score of a point in an answer; by default every point is given")]
    kernel_size: Annotated[int, Option("pixels of the filter that smooths a heatmap", default=KERNEL)]


class KeypointDetectionArguments(KeypointDetectionOptions, ImageOpenOptions, total=False):
    """Keywords of :class:`KeypointDetectionPipeline`."""


@dataclass(frozen=True)
class _Prepared(Parts):
    boxes: Sequence[Sequence[float]] = field(kw_only=True)  #: left, top, width, height


class KeypointDetectionPipeline(LocatingPipeline):
    """Points of each object, such as the joints of a person, by ViTPose.

    >>> people = detect("team.jpg")                                # object-detection
    >>> locate = KeypointDetectionPipeline(model)
    >>> locate("team.jpg", boxes=[person["box"] for person in people])
    [{'box': {'xmin': 12.0, ...}, 'keypoints': [{'label': 'Nose', 'score': 0.93, 'x': 61.2, 'y': 50.8}, ...]}]
    """

    task: ClassVar[str] = "keypoint-detection"
    call_options: ClassVar[type] = KeypointDetectionOptions
    input_keys: ClassVar[Sequence[str]] = ("image", "boxes")
    outputs = ("heatmaps",)

    def __init__(self, model: StoredModel, **arguments: Unpack[KeypointDetectionArguments]) -> None:
        super().__init__(model, **arguments)
        self._check_model(_KNOWN, self.outputs)
        self._pose = cast(PoseProcessor, self.processor)

    def __call__(
        self,
        inputs: Images | Mapping[str, Any] | Sequence[Mapping[str, Any]],
        **options: Unpack[KeypointDetectionOptions],
    ) -> Any:
        """Points of each object.

        Args:
            inputs: a picture (path, bytes, PIL image or array), or ``{"image": …, "boxes": […]}``; or several.
            options: see :class:`KeypointDetectionOptions`.

        Returns:
            For each box ``{"box": {"xmin": float, "ymin": float, "xmax": float, "ymax": float}, "keypoints":
            [{"label": str, "score": float, "x": float, "y": float}]}``, in pixels of the picture, and a list of such
            lists for several pictures.

        Raises:
            InputError: an input cannot be read as a picture, or a box is empty.
            UsageError: an unknown or invalid option.
        """
        return super().__call__(inputs, **options)

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """The options, checked."""
        check_share(threshold=options.get("threshold"))
        kernel = options.get("kernel_size", KERNEL)
        if not isinstance(kernel, int) or kernel < 1 or kernel % 2 == 0:
            raise UsageError(f"kernel_size is {kernel!r}, and must be an odd number of pixels")
        return {**options, "kernel_size": kernel}

    def preprocess(self, inputs: Any, options: Mapping[str, Any]) -> Sequence[_Prepared]:
        """The arrays of each box of each picture."""
        items = [inputs] if is_image_input(inputs) or isinstance(inputs, Mapping) else list(inputs)

        def prepare(item: Any, index: int) -> _Prepared:
            boxes = options.get("boxes")
            if isinstance(item, Mapping):
                if "image" not in item:
                    raise InputError(f"input {index} is a dict without the key image", index=index)
                boxes, item = item.get("boxes", boxes), item["image"]
            image = self.open_image(item, index)
            if not isinstance(boxes, (list, tuple, NoneType)):
                raise InputError(f"picture {index}: {boxes!r} is not a list of boxes", hint=_BOX, index=index)
            whole = (0.0, 0.0, float(image.width), float(image.height))
            found = [whole] if boxes is None else [_numbers(box, index) for box in boxes]
            return _Prepared(self._pose.boxes(image, found), boxes=found)

        return self.prepared(items, prepare)

    def postprocess(self, prepared: _Prepared, output: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> Any:
        """Points, from the heatmaps [points, height, width] of each box."""
        if not prepared.boxes:
            return []
        heatmaps = np.stack([found["heatmaps"].astype(np.float32) for found in output])
        places, scores = peaks(heatmaps, options["kernel_size"])
        least = options.get("threshold")
        answer = []
        for box, points, sure in zip(prepared.boxes, places, scores, strict=True):
            centre, scale = self._pose.center_and_scale(box)
            points = in_picture(points, centre, scale * np.float32(200), (heatmaps.shape[2], heatmaps.shape[3]))
            left, top, width, height = map(float, box)
            keypoints = [
                {"label": self.labels[at], "score": float(sure[at]), "x": float(x), "y": float(y)}
                for at, (x, y) in enumerate(points)
                if least is None or sure[at] > np.float32(least)
            ]
            sides = dict(zip(SIDES, (left, top, left + width, top + height), strict=True))
            answer.append({"box": sides, "keypoints": keypoints})
        return answer

    def render(self, answer: Any) -> list[AnswerRow]:
        """A line for each point."""
        return [
            AnswerRow(f"{place} {point['label']} ({point['x']:.1f}, {point['y']:.1f})", point["score"])
            for place, found in enumerate(answer)
            for point in found["keypoints"]
        ]

    def picture(self, inputs: ImageInput | Mapping[str, Any], answer: Any) -> Image.Image:
        """The picture with the points and boxes of an answer."""
        return draw_keypoints(self.open_image(inputs["image"] if isinstance(inputs, Mapping) else inputs), answer)


def _numbers(box: Any, index: int) -> tuple[float, float, float, float]:
    """Left, top, width and height.

    Raises:
        InputError: the box has another form, or no area.
    """
    try:
        if isinstance(box, Mapping):
            left, top, right, bottom = (float(box[side]) for side in SIDES)
            found = (left, top, right - left, bottom - top)
        else:
            left, top, width, height = map(float, box)
            found = (left, top, width, height)
    except (KeyError, TypeError, ValueError) as exc:
        raise InputError(f"picture {index}: {box!r} is not a box", hint=_BOX, index=index) from exc
    if not all(map(np.isfinite, found)) or found[2] <= 0 or found[3] <= 0:
        raise InputError(f"picture {index}: the box {box!r} has no area", hint=_BOX, index=index)
    return found


_BOX = "Write a box as object-detection gives it, or as left, top, width and height in pixels."
