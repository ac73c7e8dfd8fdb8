"""Bringing a file into the store: its own bytes on the disk, shared only where the file system copies on write."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from gpux.system.disk import disk_errors

_FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
_CHUNK = 1 << 20


def place(source: Path, target: Path) -> None:
    """Make ``target`` a regular file with the bytes of ``source``, which may be a link.

    A reflink where the file system has them, a copy else; never a hard link or a link, since damage to the source
    would then damage the store. What stood at ``target`` is replaced, and nothing is left there after an error.

    Raises:
        FileNotFoundError: there is no ``source``.
        NotWritableError: the folder of ``target`` refuses.
        DiskFullError: no room for it.
    """
    with source.open("rb") as original:
        needed = os.fstat(original.fileno()).st_size
        with disk_errors(target.parent, needed=needed):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)  # writing into it would write through a link
            _fill(original, target)


def _fill(original: BinaryIO, target: Path) -> None:
    try:
        with target.open("xb") as copy:
            if not _reflink(original, copy):
                shutil.copyfileobj(original, copy, _CHUNK)
    except BaseException:
        with suppress(OSError):
            target.unlink(missing_ok=True)
        raise


def _reflink(original: BinaryIO, copy: BinaryIO) -> bool:
    """True when the file system made ``copy`` share the bytes until one of the two changes (btrfs, XFS, bcachefs)."""
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        fcntl.ioctl(copy.fileno(), _FICLONE, original.fileno())
    except OSError:  # another file system, or one without reflinks; what is really wrong shows when copying
        return False
    return True
