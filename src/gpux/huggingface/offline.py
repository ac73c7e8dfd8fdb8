"""The refusal of what needs the Hub while offline."""

from __future__ import annotations

from gpux.errors import OfflineError
from gpux.system.settings import Settings

ONLINE_HINT = "Leave out --offline, and unset HF_HUB_OFFLINE if it is set."


def refuse_offline(settings: Settings, what: str) -> None:
    """Return where the Hub may be asked.

    Args:
        settings: those in use.
        what: the action, after "cannot": ``search``, ``list revisions`` …

    Raises:
        OfflineError: offline was asked for.
    """
    if settings.offline:
        raise OfflineError(f"offline: cannot {what} without the Hub", hint=ONLINE_HINT)
