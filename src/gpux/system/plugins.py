"""Entry points of gpux's groups, by which built-in and third-party extensions are registered alike."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from gpux.errors import UsageError


def registered(group: str, what: str, points: Iterable[EntryPoint] | None = None) -> dict[str, EntryPoint]:
    """The entry points of a group by name, in a new dict.

    Args:
        group: the group, such as ``gpux.converters``.
        what: the noun for a name in messages: ``scheme``, ``task`` …
        points: entry points to use in place of those of the installed packages.

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
    """A function of a higher package that a lower one calls, from the entry point group ``gpux.services``.

    :meth:`ModelManager.pull_model` and pipelines that are unpickled call functions of packages above their own. By
    entry points, imports stay acyclic, and the functions can be replaced.

    Raises:
        UsageError: no package registers the name, or two do.
    """
    found = registered("gpux.services", "service")
    if name not in found:
        raise UsageError(f"no package registers the service {name!r}", hint="Install gpux: `pip install gpux`.")
    return found[name].load()
