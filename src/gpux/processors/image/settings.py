"""Settings of an image processor: those of the repository's file over the defaults of its class.

The defaults, the class of each model type and what a bare number means as a size are read from transformers by
``scripts/update_image_processors.py`` into ``classes.json``.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpux.errors import UnsupportedError

#: Keys of files whose meaning moved to another key: ``{class: {old: new}}``; "*" is for each class.
_RENAMED = {
    "*": {"reduce_labels": "do_reduce_labels"},
    "Swin2SRImageProcessor": {"pad_size": "size_divisor"},
    "VitMatteImageProcessor": {"size_divisibility": "size_divisor"},
    "LayoutLMv3ImageProcessor": {"rescale_value": "rescale_factor"},
}
#: What a number and a pair become in classes that keep them until they crop or pad.
_SQUARE = {"int": {"height": 17, "width": 17}, "list": {"height": 17, "width": 19}}
_DETECTION = {"pad_and_return_pixel_mask": "do_pad"}


@functools.cache
def class_table() -> dict[str, Any]:
    """``classes.json``."""
    text = Path(__file__).with_name("classes.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def resolve_settings(class_name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a class: ``found`` over its defaults, sizes as dictionaries.

    Raises:
        UnsupportedError: a size is of a form that the class does not take.
    """
    row = class_table()["classes"][class_name]
    settings = dict(row["defaults"])
    renamed = _RENAMED["*"] | _RENAMED.get(class_name, {}) | (_DETECTION if "do_pad" in settings else {})
    nulls = row.get("null", ())
    for key, value in found.items():
        if class_name == "LayoutLMv3ImageProcessor" and key == "rescale_factor":
            continue  # the class reads rescale_value only
        if value is not None or key not in nulls:
            settings[renamed.get(key, key)] = value
    for key in (key for key in ("size", "crop_size", "pad_size") if key in settings):
        forms = row.get("sizes", {}).get(key) or ({} if key == "size" else _SQUARE)
        settings[key] = _size(class_name, key, settings[key], forms, found.get("max_size"))
    if class_name in ("DeepseekVLImageProcessor", "JanusImageProcessor"):
        mean = found.get("image_mean")
        settings["background_color"] = [127] * 3 if mean is None else [int(part * 255) for part in mean]
    if class_name == "Qwen2VLImageProcessor":
        edges = {"shortest_edge": found.get("min_pixels"), "longest_edge": found.get("max_pixels")}
        settings["size"] = settings["size"] | {key: value for key, value in edges.items() if value is not None}
    if settings.get("use_square_size") and class_name == "CLIPImageProcessor" and "shortest_edge" in settings["size"]:
        settings["size"] = dict.fromkeys(("height", "width"), settings["size"]["shortest_edge"])
    return settings


def _size(class_name: str, key: str, value: Any, forms: Mapping[str, Any], max_size: Any) -> Any:
    """A size as a dictionary; ``forms`` has the dictionaries for 17, for [17, 19] and for 17 with max_size 23."""
    if value is None or isinstance(value, Mapping):
        return value
    if isinstance(value, int) and "int" in forms:
        form = forms.get("max", forms["int"]) if max_size is not None else forms["int"]
        known: dict[int, Any] = {17: value, 23: max_size}
    elif isinstance(value, (list, tuple)) and len(value) == 2:
        form, known = forms.get("list", {"height": 17, "width": 19}), {17: value[0], 19: value[1]}
    else:
        raise UnsupportedError(
            f"the image processor {class_name} does not take {value!r} as its {key}",
            hint='Write it as {"height": …, "width": …} in the repository\'s preprocessor_config.json.',
        )
    return {name: known.get(number, number) for name, number in form.items()}
