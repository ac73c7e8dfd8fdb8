"""Entry points of gpux's groups, by which built-in and third-party extensions are registered alike."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from gpux.errors import StorageError, UsageError


def registered(
    group: str, what: str, points: Iterable[EntryPoint] | None = None, *, optional: bool = False
) -> dict[str, EntryPoint]:
    """The entry points of a group by name, in a new dict.

    Args:
        group: the group, such as ``gpux.converters``.
        what: the noun for a name in messages: ``scheme``, ``task`` …
        points: entry points to use in place of those of the installed packages.
        optional: whether the caller does without any.

    Raises:
        UsageError: two packages register the same name.
        StorageError: no package registers any, also not gpux, which does for each of its groups.
    """
    found: dict[str, EntryPoint] = {}
    for point in _installed(_places()).select(group=group) if points is None else points:
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise UsageError(
                f"two packages register the {what} {point.name!r}: {other.value} and {point.value}",
                hint="Uninstall one of them.",
            )
    if not found and points is None and not optional:
        raise StorageError(
            f"the installed gpux is incomplete: its metadata registers no {what} ({group})",
            hint="Repair the installation: `pip install --force-reinstall gpux`.",
        )
    return found


@lru_cache(maxsize=1)
def _installed(places: tuple[tuple[str, int], ...]) -> Any:
    """Every entry point; each call of ``entry_points`` reads the metadata of all packages, 20 to 50 ms.

    Python 3.11 returns another type than later versions, with the same ``select``.
    """
    return entry_points()


def _places() -> tuple[tuple[str, int], ...]:
    """The folders of :data:`sys.path`, with the times that an installation changes."""
    return tuple((folder, _time(folder)) for folder in sys.path)


def _time(folder: str) -> int:
    try:
        return os.stat(folder or ".").st_mtime_ns  # noqa: PTH116 - faster than a Path, and run at each start
    except OSError:  # no such folder
        return 0


def service(name: str) -> Any:
    """A function of a higher package that a lower one calls, from the entry point group ``gpux.services``.

    :meth:`ModelManager.pull_model` and pipelines that are unpickled call functions of packages above their own. By
    entry points, imports stay acyclic, and the functions can be replaced.

    Raises:
        UsageError: no package registers the name, or two do.
        StorageError: see :func:`registered`.
    """
    found = registered("gpux.services", "service")
    if name not in found:
        raise UsageError(f"no package registers the service {name!r}", hint="Install gpux: `pip install gpux`.")
    return found[name].load()
