"""Heights and widths: what a picture is resized to.

Each function takes the settings of a processor and the height and width of a picture, and returns the height and width
after resizing. The roundings are those of transformers 4.57 (``image_transforms.get_resize_output_image_size``,
``get_size_with_aspect_ratio`` and the functions of the classes).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from gpux.errors import UnsupportedError

Size = tuple[int, int]
Target = Callable[[Mapping[str, Any], int, int], Size]


def fixed(settings: Mapping[str, Any], height: int, width: int) -> Size:
    """``size``'s height and width."""
    size = need(settings["size"], "height", "width")
    return int(size["height"]), int(size["width"])


def shortest_or_fixed(settings: Mapping[str, Any], height: int, width: int) -> Size:
    """The shorter side becomes ``shortest_edge``; or a fixed size."""
    size = settings["size"]
    if "shortest_edge" in size:
        return shortest_edge(size["shortest_edge"], height, width)
    return fixed(settings, height, width)


def shortest_edge(edge: int, height: int, width: int, longest: int | None = None) -> Size:
    """The shorter side becomes ``edge``, the longer one at most ``longest``."""
    short, long = min(height, width), max(height, width)
    new_short, new_long = edge, int(edge * long / short)
    if longest is not None:
        if longest <= edge:
            raise UnsupportedError(
                f"the longest edge ({longest}) of the image processor is not above the shortest ({edge})"
            )
        if new_long > longest:
            new_short, new_long = int(longest * new_short / new_long), longest
    return (new_long, new_short) if width <= height else (new_short, new_long)


def levit(settings: Mapping[str, Any], height: int, width: int) -> Size:
    """The shorter side becomes 256/224 of ``shortest_edge``; or a fixed size."""
    size = settings["size"]
    if "shortest_edge" in size:
        return shortest_edge(int(256 / 224 * size["shortest_edge"]), height, width)
    return fixed(settings, height, width)


def poolformer(settings: Mapping[str, Any], height: int, width: int) -> Size:
    """The size divided by ``crop_pct``."""
    size, part = settings["size"], settings.get("crop_pct")
    if part is None:
        return shortest_or_fixed(settings, height, width)
    if "shortest_edge" in size:
        return shortest_edge(int(size["shortest_edge"] / part), height, width)
    tall, wide = fixed(settings, height, width)
    if tall == wide:
        return shortest_edge(int(tall / part), height, width)
    return int(tall / part), int(wide / part)


def multiple_below(settings: Mapping[str, Any], height: int, width: int) -> Size:
    """The greatest multiples of ``size_divisor`` within the picture."""
    divisor = settings["size_divisor"]
    return height // divisor * divisor, width // divisor * divisor


def depth(settings: Mapping[str, Any], height: int, width: int) -> Size:
    """A fixed size, or one near it with the picture's aspect ratio, in multiples of ``ensure_multiple_of``."""
    tall, wide = fixed(settings, height, width)
    by_height, by_width = tall / height, wide / width
    if settings["keep_aspect_ratio"]:  # the one that changes the picture less
        by_height = by_width = by_width if abs(1 - by_width) < abs(1 - by_height) else by_height
    multiple = settings["ensure_multiple_of"]
    return round(by_height * height / multiple) * multiple, round(by_width * width / multiple) * multiple


def detection(settings: Mapping[str, Any], height: int, width: int) -> Size:
    """Shortest and longest edge, greatest height and width, or a fixed size: the DETR family."""
    size = settings["size"]
    if "shortest_edge" in size and "longest_edge" in size:
        return detection_edges(size["shortest_edge"], size["longest_edge"], height, width)
    return within_or_fixed(settings, height, width)


def yolos(settings: Mapping[str, Any], height: int, width: int) -> Size:
    """As :func:`detection`, in multiples of 16 below where edges are given."""
    size = settings["size"]
    if "shortest_edge" in size and "longest_edge" in size:
        tall, wide = detection_edges(size["shortest_edge"], size["longest_edge"], height, width)
        return tall - tall % 16, wide - wide % 16
    return within_or_fixed(settings, height, width)


def within_or_fixed(settings: Mapping[str, Any], height: int, width: int) -> Size:
    """The greatest size within ``max_height`` and ``max_width`` of the picture's aspect ratio; or a fixed size."""
    size = settings["size"]
    if "max_height" in size and "max_width" in size:
        scale = min(size["max_height"] / height, size["max_width"] / width)
        return int(height * scale), int(width * scale)
    return fixed(settings, height, width)


def detection_edges(
    edge: int, longest: int | None, height: int, width: int, *, pixels: Callable[[float], int] = int
) -> Size:
    """The shorter side becomes ``edge``, or less, so that the longer one is at most ``longest``.

    ``pixels`` gives whole pixels of the other side: by default they are cut off.
    """
    exact: float | None = None
    short, long = float(min(height, width)), float(max(height, width))
    if longest is not None and long / short * edge > longest:
        exact = longest * short / long
        edge = round(exact)
    if (height <= width and height == edge) or (width <= height and width == edge):
        return height, width
    if width < height:
        return pixels((edge if exact is None else exact) * height / width), edge
    return edge, pixels((edge if exact is None else exact) * width / height)


def masks(settings: Mapping[str, Any], height: int, width: int) -> Size:
    """Shortest and longest edge or a fixed size, in multiples of ``size_divisor`` above: the MaskFormer family."""
    size = settings["size"]
    if "shortest_edge" in size and "longest_edge" in size:
        tall, wide = shortest_edge(size["shortest_edge"], height, width, size["longest_edge"])
    else:
        tall, wide = fixed(settings, height, width)
    divisor = settings.get("size_divisor") or 0
    if divisor > 0:
        return math.ceil(tall / divisor) * divisor, math.ceil(wide / divisor) * divisor
    return tall, wide


def multiples_above(settings: Mapping[str, Any], height: int, width: int) -> Size:
    """Shortest edge or a fixed size, then up to multiples of ``size_divisor``: TextNet."""
    tall, wide = shortest_or_fixed(settings, height, width)
    divisor = settings["size_divisor"]
    return math.ceil(tall / divisor) * divisor, math.ceil(wide / divisor) * divisor


def multiples_below(settings: Mapping[str, Any], height: int, width: int) -> Size:
    """The shorter side becomes ``shortest_edge``, the longer at most 1333/800 of it, then down to multiples: ViLT."""
    edge = need(settings["size"], "shortest_edge")["shortest_edge"]
    longest = int(1333 / 800 * edge)
    scale = edge / min(height, width)
    tall, wide = (edge, scale * width) if height < width else (scale * height, edge)
    if max(tall, wide) > longest:
        scale = longest / max(tall, wide)
        tall, wide = scale * tall, scale * wide
    divisor = settings["size_divisor"]
    return int(tall + 0.5) // divisor * divisor, int(wide + 0.5) // divisor * divisor


def longest_rounded(settings: Mapping[str, Any], height: int, width: int) -> Size:
    """The longer side becomes ``longest_edge``, the shorter is rounded: SAM."""
    edge = need(settings["size"], "longest_edge")["longest_edge"]
    scale = edge * 1.0 / max(height, width)
    return int(height * scale + 0.5), int(width * scale + 0.5)


def longest_below(settings: Mapping[str, Any], height: int, width: int) -> Size:
    """The longer side becomes ``longest_edge``, the shorter is cut down to whole pixels; or a fixed size: TVP."""
    edge = settings["size"].get("longest_edge")
    if edge is None:
        return fixed(settings, height, width)
    return (edge, int(edge * (width * 1.0 / height))) if height >= width else (int(edge * (height * 1.0 / width)), edge)


def rounded_edges(settings: Mapping[str, Any], height: int, width: int) -> Size:
    """As :func:`detection_edges`, the other side rounded: EoMT."""
    size = settings["size"]
    return detection_edges(size["shortest_edge"], size.get("longest_edge"), height, width, pixels=round)


def need(size: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """A size that has these keys.

    Raises:
        UnsupportedError: it lacks one.
    """
    if any(size.get(key) is None for key in keys):
        raise UnsupportedError(
            f"the image processor takes a size of {' and '.join(keys)}, and the file has {', '.join(size) or 'none'}",
            hint="Compare size in preprocessor_config.json with the defaults of the class in transformers.",
        )
    return size
