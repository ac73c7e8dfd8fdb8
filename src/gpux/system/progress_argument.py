"""The argument ``progress=`` of public functions; a module of its own, since drawing imports rich."""

from __future__ import annotations

import sys

from gpux.system.progress import ProgressCallback, silent


def callback(progress: ProgressCallback | bool | None) -> ProgressCallback:
    """A callable is returned unchanged; True, and None in a notebook, stand for one that draws: in the notebook, or on
    stderr."""
    if callable(progress):
        return progress
    in_notebook = "ipykernel" in sys.modules
    if in_notebook and progress in (None, True):
        from gpux.system.progress_notebook import NotebookDisplay  # imports IPython

        return NotebookDisplay()
    if progress:
        from gpux.system.progress_display import ProgressDisplay  # imports rich

        return ProgressDisplay()
    return silent
