"""What the argument ``progress=`` of a public function means."""

from __future__ import annotations

import sys

from gpux.system.progress import ProgressCallback, silent


def callback(progress: ProgressCallback | bool | None) -> ProgressCallback:
    """The callback for an argument: a callable is used as it is, True draws on stderr, None does so in a notebook."""
    if callable(progress):
        return progress
    if progress or (progress is None and "ipykernel" in sys.modules):
        from gpux.system.progress_display import ProgressDisplay  # imports rich

        return ProgressDisplay()
    return silent
