"""Answers drawn onto the picture that they are about: boxes, masks and keypoints, with their labels.

Colours are those of Okabe and Ito (jfly.uni-koeln.de/color), which people with any kind of colour blindness tell apart;
lines have a dark and a light edge, and labels a ground of their own, so that they are readable on every picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

#: Orange, sky blue, bluish green, yellow, blue, vermilion, reddish purple.
PALETTE: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
#: Share of a mask's colour in the colour of its pixels.
_OPACITY = 0.5


def draw_boxes(picture: Image.Image, found: Iterable[Mapping[str, Any]]) -> Image.Image:
    """A copy of a picture with boxes; each label has one colour.

    Args:
        picture: in RGB.
        found: entries with ``box`` (``xmin``, ``ymin``, ``xmax``, ``ymax`` in pixels), ``label`` and ``score``. Those
            with the highest scores are drawn last, above the others.
    """
    canvas = _Canvas(picture)
    entries = sorted(found, key=lambda entry: float(entry.get("score") or 0))
    colours = _colours(entry["label"] for entry in entries)
    for entry in entries:
        canvas.box(_sides(entry["box"]), colours[entry["label"]])
    for entry in reversed(entries):
        left, top, *_ = _sides(entry["box"])
        canvas.label(_text(entry["label"], entry.get("score")), (left, top), colours[entry["label"]])
    return canvas.picture


def draw_masks(picture: Image.Image, found: Sequence[Mapping[str, Any]]) -> Image.Image:
    """A copy of a picture with coloured masks, their outlines and labels.

    Args:
        picture: in RGB.
        found: entries with ``mask`` (a PIL image of the picture's size, not 0 inside), and perhaps ``label`` and
            ``score``.
    """
    masks = [np.asarray(entry["mask"]) > 0 for entry in found]
    colours = [PALETTE[place % len(PALETTE)] for place in range(len(masks))]
    pixels = np.asarray(picture).astype(np.float32)
    for mask, colour in zip(masks, colours, strict=True):
        pixels[mask] = (1 - _OPACITY) * pixels[mask] + _OPACITY * np.array(colour, dtype=np.float32)
    drawn = pixels.astype(np.uint8)
    for mask, colour in zip(masks, colours, strict=True):
        drawn[_outline(mask)] = colour
    canvas = _Canvas(Image.fromarray(drawn))
    for entry, mask, colour in zip(found, masks, colours, strict=True):
        if mask.any() and entry.get("label"):
            canvas.label(_text(entry["label"], entry.get("score")), _inside(mask), colour, centred=True)
    return canvas.picture


def draw_keypoints(picture: Image.Image, found: Iterable[Mapping[str, Any]]) -> Image.Image:
    """A copy of a picture with points; each object has one colour, and its box is drawn where there is one.

    Args:
        picture: in RGB.
        found: entries with ``keypoints`` (each with ``x`` and ``y`` in pixels), and perhaps ``box``.
    """
    canvas = _Canvas(picture)
    for place, entry in enumerate(found):
        colour = PALETTE[place % len(PALETTE)]
        if entry.get("box"):
            canvas.box(_sides(entry["box"]), colour)
        for point in entry["keypoints"]:
            canvas.point((float(point["x"]), float(point["y"])), colour)
    return canvas.picture


class _Canvas:
    """A copy of a picture that is drawn on, with lines and letters in proportion to its size."""

    def __init__(self, picture: Image.Image) -> None:
        self.picture = picture.convert("RGB").copy()
        self._draw = ImageDraw.Draw(self.picture)
        short = min(self.picture.size)
        self._line = max(1, round(short / 200))
        self._font = ImageFont.load_default(size=max(10, round(short / 28)))
        self._labels: list[tuple[float, float, float, float]] = []

    def box(self, sides: tuple[float, float, float, float], colour: Colour) -> None:
        """A box, in its colour between a dark and a light line."""
        width, height = self.picture.size
        left, right = (min(max(side, 0), width - 1) for side in sides[::2])
        top, bottom = (min(max(side, 0), height - 1) for side in sides[1::2])
        if right < left or bottom < top:  # of a box without an area
            return
        for grown, line, edge in ((1, 1, _BLACK), (0, self._line, colour), (-self._line, 1, _WHITE)):
            around = (left - grown, top - grown, right + grown, bottom + grown)
            if around[2] > around[0] and around[3] > around[1]:
                self._draw.rectangle(around, outline=edge, width=line)

    def point(self, place: tuple[float, float], colour: Colour) -> None:
        """A point, with a dark edge around a light one."""
        for grown, fill in ((2, _BLACK), (1, _WHITE), (0, colour)):
            radius = 1.5 * self._line + grown
            self._draw.ellipse((place[0] - radius, place[1] - radius, place[0] + radius, place[1] + radius), fill=fill)

    def label(self, text: str, place: tuple[float, float], colour: Colour, *, centred: bool = False) -> None:
        """A text on a ground of its colour: above a place, or around it; below earlier ones, and within the picture."""
        left, top, right, bottom = self._draw.textbbox((0, 0), text, font=self._font)
        margin = max(1, self._line)
        width, height = right - left + 2 * margin, bottom - top + 2 * margin
        x, y = (place[0] - width / 2, place[1] - height / 2) if centred else (place[0], place[1] - height)
        x = max(0, min(x, self.picture.width - width))
        y = max(0, min(y, self.picture.height - height))
        lower = y
        while lower + height <= self.picture.height and self._covers_label((x, lower, x + width, lower + height)):
            lower += height / 2
        y = lower if lower + height <= self.picture.height else y
        self._labels.append((x, y, x + width, y + height))
        self._draw.rectangle((x, y, x + width, y + height), fill=colour, outline=_BLACK)
        self._draw.text((x + margin - left, y + margin - top), text, fill=_readable(colour), font=self._font)

    def _covers_label(self, area: tuple[float, float, float, float]) -> bool:
        left, top, right, bottom = area
        return any(x < right and left < end and y < bottom and top < low for x, y, end, low in self._labels)


def _colours(labels: Iterable[str]) -> dict[str, Colour]:
    """A colour for each label, in alphabetical order, so that it does not depend on scores."""
    return {label: PALETTE[place % len(PALETTE)] for place, label in enumerate(sorted(set(labels)))}


def _readable(ground: Colour) -> Colour:
    """Black or white, whichever has the higher contrast, by relative luminance (WCAG 2)."""
    linear = [(level / 255 / 12.92) if level <= 10 else ((level / 255 + 0.055) / 1.055) ** 2.4 for level in ground]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return _BLACK if luminance > 0.179 else _WHITE


def _text(label: str, score: float | None) -> str:
    return str(label) if score is None else f"{label} {score:.2f}"


def _sides(box: Mapping[str, float]) -> tuple[float, float, float, float]:
    return box["xmin"], box["ymin"], box["xmax"], box["ymax"]


def _outline(mask: Any) -> Any:
    """The pixels of a mask [height, width] that touch its outside."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _inside(mask: Any) -> tuple[float, float]:
    """The pixel of a mask nearest to its centre, as x and y."""
    rows, columns = np.nonzero(mask)
    place = np.hypot(rows - rows.mean(), columns - columns.mean()).argmin()
    return float(columns[place]), float(rows[place])
