"""Numbers as text."""

from __future__ import annotations


def format_bytes(count: int) -> str:
    """A number of bytes with a decimal unit: ``87.3 MB``."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if round(size, 1) < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
