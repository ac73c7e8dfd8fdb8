"""Two folders change places in one step, where the system can: no reader meets a moment without either."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_AT_FDCWD = -100  # linux/fcntl.h
_RENAME_EXCHANGE = 2  # linux/fs.h


def exchange(first: Path, second: Path) -> bool:
    """Swap the two names; False, with nothing done, where one is missing or the system or its disk cannot."""
    if sys.platform != "linux":
        return False
    import ctypes

    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)  # glibc 2.28, musl 1.2.5
    if renameat2 is None:
        return False
    # Why it failed does not matter: the two renames that follow meet the same reason, and say it.
    names = (os.fsencode(first), os.fsencode(second))
    return bool(renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], ctypes.c_uint(_RENAME_EXCHANGE)) == 0)
