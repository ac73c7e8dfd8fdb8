"""The argument ``progress=`` of public functions; a module of its own, since drawing imports rich."""

from __future__ import annotations

import sys

from gpux.system.progress import ProgressCallback, silent


def callback(progress: ProgressCallback | bool | None) -> ProgressCallback:
    """A callable is returned unchanged; for True, and for None in a notebook, the callback draws on stderr."""
    if callable(progress):
        return progress
    if progress or (progress is None and "ipykernel" in sys.modules):
        from gpux.system.progress_display import ProgressDisplay  # imports rich

        return ProgressDisplay()
    return silent
