"""Outputs of models that locate things in pictures, and the options with which a pipeline reads them.

A case is one class of image processors with random outputs of a model. ``scripts/update_located_goldens.py`` writes
what transformers reads from them, and the tests run a graph that has the same outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Height and width of the picture.
SIZE = (67, 101)
QUERIES, CLASSES = 12, 5
NAMES = tuple(f"class {index}" for index in range(CLASSES))
_SEGMENTS: tuple[dict[str, Any], ...] = (
    {"subtask": "semantic"},
    {"threshold": 0.0, "mask_threshold": 0.3, "overlap_mask_area_threshold": 0.1},
    {"subtask": "instance", "threshold": 0.1, "mask_threshold": 0.2, "overlap_mask_area_threshold": 0.0},
    {"subtask": "panoptic", "threshold": 0.4},
    {},
)


@dataclass(frozen=True)
class Case:
    """A class of image processors for one task."""

    task: str
    processor: str  #: transformers' name
    seed: int
    options: Sequence[Mapping[str, Any]] = ({},)
    settings: Mapping[str, Any] | None = None  #: of preprocessor_config.json

    @property
    def name(self) -> str:
        return f"{self.task}/{self.processor}"

    def outputs(self) -> dict[str, NDArray[np.float32]]:
        """Of the model, with a batch axis of 1."""
        random = np.random.default_rng(self.seed)
        if self.task == "depth-estimation":
            return {"predicted_depth": _floats(_maps(random, 1, 24, 30) + 5)}
        if self.task == "keypoint-detection":
            return {"heatmaps": _maps(random, 5, 16, 12)[None] / 3}
        if self.task == "object-detection":
            classes = CLASSES + (self.processor in ("DetrImageProcessor", "YolosImageProcessor"))
            boxes = random.uniform(0.1, 0.7, (1, QUERIES, 4)).astype(np.float32)
            return {"logits": _floats(random.normal(0, 2, (1, QUERIES, classes))), "pred_boxes": boxes}
        if self.processor in ("SegformerImageProcessor", "BeitImageProcessor"):
            return {"logits": _maps(random, CLASSES, 9, 14)[None]}
        first, second = (
            ("logits", "pred_masks") if "Detr" in self.processor else ("class_queries_logits", "masks_queries_logits")
        )
        logits = _floats(random.normal(0, 2, (1, QUERIES, CLASSES + 1)))
        return {first: logits, second: _maps(random, QUERIES, 17, 25)[None]}


def _floats(values: Any) -> NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32)


def _maps(random: np.random.Generator, count: int, height: int, width: int) -> NDArray[np.float32]:
    """Smooth maps [count, height, width], of which one wins clearly almost everywhere."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [
        3 * np.sin(rows * random.uniform(0.1, 0.5) + random.uniform(0, 6)) * np.cos(columns * random.uniform(0.1, 0.5))
        for _ in range(count)
    ]
    return _floats(np.stack(waves) + random.normal(0, 0.2, (count, 1, 1)))


_BOXES: tuple[dict[str, Any], ...] = ({"threshold": 0.0}, {"threshold": 0.6}, {})
_SMALL = {"size": {"height": 32, "width": 32}}
CASES = (
    *(
        Case("object-detection", f"{name}ImageProcessor", seed, _BOXES, settings)
        for seed, (name, settings) in enumerate(
            {
                "Detr": {"size": {"shortest_edge": 32, "longest_edge": 64}},
                "Yolos": {"size": {"shortest_edge": 32, "longest_edge": 64}},
                "ConditionalDetr": {"size": {"shortest_edge": 32, "longest_edge": 64}},
                "DeformableDetr": {"size": {"shortest_edge": 32, "longest_edge": 64}},
                "RTDetr": _SMALL,
            }.items()
        )
    ),
    Case("image-segmentation", "SegformerImageProcessor", 10, settings=_SMALL),
    Case("image-segmentation", "BeitImageProcessor", 11, settings={**_SMALL, "do_center_crop": False}),
    *(
        Case(
            "image-segmentation",
            f"{name}ImageProcessor",
            20 + seed,
            _SEGMENTS,
            {"size": {"shortest_edge": 32, "longest_edge": 64}},
        )
        for seed, name in enumerate(("Detr", "ConditionalDetr", "MaskFormer", "Mask2Former"))
    ),
    Case("depth-estimation", "DPTImageProcessor", 30, settings=_SMALL),
    Case("depth-estimation", "GLPNImageProcessor", 31, settings={"size_divisor": 32}),
    Case(
        "keypoint-detection",
        "VitPoseImageProcessor",
        33,
        (
            {},
            {"boxes": [[10.0, 5.0, 40.0, 50.0]], "threshold": 0.5},
            {"boxes": [[3.5, 2.0, 90.0, 12.0]], "kernel_size": 5},
        ),
        {"size": {"height": 64, "width": 48}},
    ),
    Case("depth-estimation", "ZoeDepthImageProcessor", 32, settings={**_SMALL, "keep_aspect_ratio": False}),
)


def questions() -> Iterator[tuple[str, Case, Mapping[str, Any]]]:
    """Name, case and options of each answer."""
    for case in CASES:
        for place, options in enumerate(case.options):
            yield f"{case.name}/{place}", case, options
