"""Work that nothing waits for, beside the caller."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


def in_background(work: Callable[[], None], name: str, *, daemon: bool) -> threading.Thread | None:
    """Do it in a thread of that name; None where the system starts no more of them, and it is left undone.

    Args:
        work: handles its own exceptions.
        name: of the thread.
        daemon: whether the program may end before it does.
    """
    thread = threading.Thread(target=work, name=name, daemon=daemon)
    try:
        thread.start()
    except RuntimeError as exc:  # the limit of processes, or a program that is about to end
        log.info("%s is left undone: %s", name, exc)
        return None
    return thread
