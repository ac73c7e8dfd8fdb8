"""Waiting in tests: a wait has no limit of its own; one that does not end fails by the timeout of pytest."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Seconds, longer than any test may take.
FOREVER = 3600.0


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds that no event reports, such as one of another process."""
    while not condition():
        time.sleep(0.01)
