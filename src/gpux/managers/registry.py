"""Managers by scheme, from the entry points ``gpux.managers``, through which built-in managers register too."""

from __future__ import annotations

from gpux.errors import UsageError
from gpux.managers.base import ModelManager
from gpux.system.plugins import registered
from gpux.system.settings import Settings

GROUP = "gpux.managers"


def manager_for(scheme: str, settings: Settings) -> ModelManager:
    """The manager of one scheme.

    Raises:
        UsageError: no installed package provides it, or two do.
    """
    found = registered(GROUP, "scheme")
    if scheme not in found:
        known = ", ".join(sorted(found))
        raise UsageError(f"no manager pulls {scheme!r} models", hint=f"Known schemes: {known}.")
    manager: ModelManager = found[scheme].load()(settings)
    return manager
