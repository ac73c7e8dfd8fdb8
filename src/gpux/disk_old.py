"""This machine's disk: failures to write, told apart by errno, and the space that is left."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpux.errors import DiskFullError, NotWritableError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST})


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn a failed write below ``folder`` into gpux's error; other errors pass.

    Raises:
        DiskFullError: no space, quota or file-size limit left; ``details`` has ``free`` in bytes.
        NotWritableError: permission, a read-only file system, or a file where a folder should be.
    """
    try:
        yield
    except OSError as exc:
        if exc.errno in _FULL:
            free = free_space(folder)
            raise DiskFullError(
                f"no space left for {folder} ({free / 1e6:,.0f} MB free)",
                hint="Make room (`gpux prune`, `gpux rm`), or move gpux's folder with GPUX_HOME.",
                folder=str(folder),
                free=free,
            ) from exc
        if exc.errno in _REFUSED:
            raise NotWritableError(
                f"{exc.filename or folder} cannot be written: {exc.strerror}",
                hint="Change its permissions, or move gpux's folder with GPUX_HOME and the source cache with HF_HOME.",
                folder=str(folder),
            ) from exc
        raise


def free_space(folder: Path) -> int:
    """Bytes free on the file system that holds ``folder``, or will hold it."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
