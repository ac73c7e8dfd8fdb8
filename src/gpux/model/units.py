"""Numbers as text, and texts as numbers."""

from __future__ import annotations

import math
import re


def format_bytes(count: int) -> str:
    """A number of bytes with a decimal unit: ``87.3 MB``."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if round(size, 1) < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", re.IGNORECASE)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str) -> float:
    """Seconds of a duration: ``90``, ``90s``, ``5m``, ``1h30m``; infinity for ``-1`` and ``never``.

    Raises:
        ValueError: the text is not a duration.
    """
    word = text.strip().lower()
    if word == "never" or (word.startswith("-") and _DURATION.fullmatch(word[1:])):
        return math.inf
    parts = list(_DURATION.finditer(word))
    if not parts or "".join(part[0] for part in parts) != word or (len(parts) > 1 and not all(p[2] for p in parts)):
        raise ValueError(f"{text!r} is not a duration, such as 90s, 5m or 1h30m")
    return sum(float(part[1]) * _SECONDS[part[2] or "s"] for part in parts)


def format_duration(seconds: float) -> str:
    """Seconds in the two largest units: ``4m 59s``, ``2h``; ``never`` for infinity."""
    if math.isinf(seconds):
        return "never"
    left, words = max(0, round(seconds)), []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, left = divmod(left, length)
        if number:
            words.append(f"{number}{unit}")
    return " ".join(words[:2]) or "0s"
