"""Pictures of circles, squares and triangles on noise, with boxes and masks, which the small vision models learn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIDE = 96
LABELS = ("circle", "square", "triangle")


@dataclass(frozen=True)
class Scene:
    """A picture with what is in it."""

    image: Image.Image  #: RGB, SIDE by SIDE
    labels: list[int]  #: indices in LABELS
    boxes: list[tuple[float, float, float, float]]  #: left, top, right, bottom in pixels
    classes: NDArray[np.uint8]  #: [SIDE, SIDE]: 0 is background, else the label plus 1


def draw_scene(generator: np.random.Generator, side: int = SIDE) -> Scene:
    """One to three shapes that do not overlap much."""
    grey = generator.uniform(40, 215)
    noise = generator.normal(grey, 12, (side, side, 3)) + generator.normal(0, 15, (1, 1, 3))
    image = Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))
    classes = Image.new("L", (side, side), 0)
    labels: list[int] = []
    boxes: list[tuple[float, float, float, float]] = []
    for _ in range(int(generator.integers(1, 4))):
        size = int(generator.integers(side // 5, side // 2))
        left, top = (int(generator.integers(0, side - size)) for _ in range(2))
        box = (left, top, left + size, top + size)
        if any(_overlap(box, other) > 0.05 for other in boxes):
            continue
        label = int(generator.integers(0, 3))
        colour = _colour(generator, grey)
        for picture, fill in ((image, colour), (classes, label + 1)):
            _draw(ImageDraw.Draw(picture), label, box, fill)
        labels.append(label)
        boxes.append(box)
    return Scene(image, labels, boxes, np.asarray(classes))


def _colour(generator: np.random.Generator, grey: float) -> tuple[int, int, int]:
    """A colour that differs clearly from the background."""
    while True:
        colour = generator.integers(0, 256, 3)
        if np.abs(colour - grey).max() > 90:
            return int(colour[0]), int(colour[1]), int(colour[2])


def _draw(canvas: ImageDraw.ImageDraw, label: int, box: tuple[int, int, int, int], fill: object) -> None:
    left, top, right, bottom = box[0], box[1], box[2] - 1, box[3] - 1
    if label == 0:
        canvas.ellipse((left, top, right, bottom), fill=fill)  # type: ignore[arg-type]
    elif label == 1:
        canvas.rectangle((left, top, right, bottom), fill=fill)  # type: ignore[arg-type]
    else:
        canvas.polygon([(left, bottom), ((left + right) // 2, top), (right, bottom)], fill=fill)  # type: ignore[arg-type]


def _overlap(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """Intersection over the smaller area."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return max(0.0, width) * max(0.0, height) / min(areas)
