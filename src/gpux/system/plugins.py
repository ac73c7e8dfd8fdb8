"""What packages register under an entry point group of gpux: built-ins and others by the same way, each name once."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

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


def service(name: str) -> Any:
    """A function of a higher room that a lower one offers to its users, from the entry points ``gpux.services``.

    :meth:`ModelManager.pull_model` and a pipeline that is unpickled on another machine need what stands above them; the
    import graph stays one way, and the pull can be replaced.

    Raises:
        UsageError: it is not registered, or by two packages.
    """
    found = registered("gpux.services", "service")
    if name not in found:
        raise UsageError(f"nothing registers the service {name!r}", hint="Install gpux: `pip install gpux`.")
    return found[name].load()
