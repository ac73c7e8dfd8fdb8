"""Boxes in pictures: from the numbers that a detector gives to corners in pixels of the picture that came in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.errors import UsageError
from gpux.model.variant import StoredModel

Floats = NDArray[np.float32]
#: Names of a box's sides in an answer, in the order of its numbers.
SIDES = ("xmin", "ymin", "xmax", "ymax")


class LabelNames:
    """Names of the classes of a model, from ``id2label`` of its config.json; ``LABEL_3`` where it has no name."""

    def __init__(self, model: StoredModel) -> None:
        found = model.read_json("config.json").get("id2label")
        self._named = {int(key): str(name) for key, name in found.items()} if isinstance(found, Mapping) else {}

    def __getitem__(self, index: int) -> str:
        return self._named.get(int(index), f"LABEL_{int(index)}")

    def __iter__(self) -> Iterator[str]:  # without it, Python would count up for ever, as no index is missing
        """The names of the classes that have one, in the order of their numbers."""
        return iter([self._named[number] for number in sorted(self._named)])


def corners(boxes: Floats, size: tuple[float, float]) -> Floats:
    """Corners [boxes, 4] in pixels: left, top, right, bottom.

    Args:
        boxes: [boxes, 4] of a centre, a width and a height, as shares of the picture.
        size: height and width of the picture.
    """
    centre, extent = boxes[:, :2].astype(np.float32), boxes[:, 2:].astype(np.float32)
    half = np.float32(0.5) * extent
    height, width = size
    scale = np.array([width, height, width, height], dtype=np.float32)
    found: Floats = np.concatenate([centre - half, centre + half], axis=1) * scale
    return found


def box(numbers: Floats) -> dict[str, int]:
    """A box of an answer; fractions of pixels are cut off, as in transformers."""
    return {side: int(number) for side, number in zip(SIDES, numbers, strict=True)}


def best(scores: Floats, count: int) -> NDArray[np.intp]:
    """Places of the highest scores, best first; of equal scores, the first place first."""
    return np.argsort(-scores, kind="stable")[:count]


def check_share(**values: float | None) -> None:
    """Refuse an option outside of 0 to 1; None stands for a default.

    Raises:
        UsageError: with the name of the first such option.
    """
    for name, value in values.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise UsageError(f"{name} is {value!r}, and must be a number from 0 to 1")
        if not 0 <= value <= 1:
            raise UsageError(f"{name} is {value}, and must be a number from 0 to 1")


def label_rows(answer: Any) -> list[tuple[str, float | None]]:
    """Label with the corners of its box, and score, of each object in an answer."""
    return [
        ("{label} ({xmin}, {ymin}, {xmax}, {ymax})".format(label=found["label"], **found["box"]), found["score"])
        for found in answer
    ]
