"""What packages register under an entry point group of gpux: built-ins and others by the same way, each name once."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

from gpux.errors import UsageError


def registered(group: str, what: str, points: Iterable[EntryPoint] | None = None) -> dict[str, EntryPoint]:
    """Name -> entry point; a new dict each time.

    Args:
        group: of entry points, such as ``gpux.converters``.
        what: a name is called in messages: ``scheme``, ``task`` …
        points: default: those of the installed packages.

    Raises:
        UsageError: two packages register the same name.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group) if points is None else points:
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise UsageError(
                f"two packages register the {what} {point.name!r}: {other.value} and {point.value}",
                hint="Uninstall one of them.",
            )
    return found
