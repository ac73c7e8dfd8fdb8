"""Default parameters that a user gives a model: names with JSON values; those that are well known have a range."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

LARGEST = 65_536  #: bytes of all of them, as JSON
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
#: parameter -> lowest, highest, and whether it is a whole number (transformers' ``GenerationConfig``)
_RANGES: dict[str, tuple[float, float, bool]] = {
    "temperature": (0, 100, False),
    "top_p": (0, 1, False),
    "min_p": (0, 1, False),
    "typical_p": (0, 1, False),
    "repetition_penalty": (0, 100, False),
    "top_k": (0, 10**9, True),
    "max_new_tokens": (1, 10**9, True),
    "max_length": (1, 10**9, True),
    "num_beams": (1, 10**4, True),
}


def checked_defaults(value: Any) -> dict[str, Any]:
    """The parameters as they are kept; one that is None takes a former one away.

    Raises:
        TypeError: no mapping.
        ValueError: a name that is none, or a value that JSON does not have or that is out of range.
    """
    if not isinstance(value, Mapping):
        raise TypeError("names with values are expected")
    for name, item in value.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a parameter")
        if name in _RANGES and item is not None:
            _check_range(name, item)
    try:
        text = json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise ValueError(f"values that JSON has are expected ({exc})") from exc
    if len(text) > LARGEST:
        raise ValueError(f"at most {LARGEST:,} bytes are expected")
    found: dict[str, Any] = json.loads(text)
    return found


def merged_defaults(former: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The former ones with those that are given in their place; without those that are None."""
    return {name: item for name, item in {**former, **given}.items() if item is not None}


def _check_range(name: str, value: Any) -> None:
    low, high, whole = _RANGES[name]
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        raise ValueError(f"{name} is a {'whole ' if whole else ''}number from {low:g} to {high:g}")
