"""Managers by scheme, from the entry points ``gpux.managers``: built-in ones come by the same way as plug-ins."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from gpux.errors import UsageError
from gpux.managers.base import ModelManager
from gpux.settings import Settings

GROUP = "gpux.managers"


def registered() -> dict[str, EntryPoint]:
    """Scheme -> entry point.

    Raises:
        UsageError: two installed packages claim one scheme.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise UsageError(f"the scheme {point.name!r} is claimed by {other.value} and {point.value}")
    return found


def manager_for(scheme: str, settings: Settings) -> ModelManager:
    """The manager of one scheme.

    Raises:
        UsageError: no installed package brings it.
    """
    found = registered()
    if scheme not in found:
        known = ", ".join(sorted(found))
        raise UsageError(f"nothing here pulls {scheme!r} models", hint=f"Known schemes: {known}.")
    manager: ModelManager = found[scheme].load()(settings)
    return manager
