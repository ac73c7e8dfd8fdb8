"""Errors of the disk as gpux errors, mapped by errno in one place; free space; sizes in words."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gpux.errors import DiskFullError, NotWritableError, StorageError
from gpux.model.units import format_bytes

#: The folder, or one above it, is not writable. EEXIST and ENOTDIR: a file is in the place of a folder.
REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST})
#: No space: on the disk, in the quota of the user, or for a file of this size.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: The disk fails, or does not support the name or the rename.
FAILED = frozenset({errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.ELOOP, errno.ENAMETOOLONG, errno.EXDEV})

_CACHEDIR_TAG = """Signature: 8a477f597d28d172789f06886806bc55
# This file is a cache directory tag created by gpux.
# For information about cache directory tags, see https://bford.info/cachedir/
"""

_HOME_HINT = "Make the folder writable, or set GPUX_HOME to another one."
_FULL_HINT = "`gpux prune` and `gpux rm` free space; GPUX_HOME moves gpux's folder to another disk."


@contextmanager
def disk_errors(path: Path, *, needed: int | None = None, hint: str | None = None) -> Iterator[None]:
    """Map errors of a block that writes to the folder ``path``.

    ``needed`` is the number of bytes that the block writes, where it is known; ``hint`` replaces the hint about
    GPUX_HOME. Other errors (no such file …) pass unchanged, except where no folder can be created, as in ``/proc``.

    Raises:
        NotWritableError: no permission, a read-only disk, or a file in the place of a folder.
        DiskFullError: no space, or beyond a quota or file size limit; ``details`` has ``free`` and ``needed``.
        StorageError: the disk fails.
    """
    try:
        yield
    except OSError as exc:
        error = _typed(exc, path, needed, hint)
        if error is None:
            raise
        raise error from exc


def _typed(exc: OSError, path: Path, needed: int | None, hint: str | None) -> StorageError | None:
    why = exc.strerror or str(exc)
    at = f" ({exc.filename})" if exc.filename and str(exc.filename) != str(path) else ""
    if exc.errno in REFUSED or _cannot_be_made(exc, path):
        return NotWritableError(f"cannot write to {path}: {why}{at}", hint=hint or _HOME_HINT, path=str(path))
    if exc.errno in FULL:
        return _full(why + at, path, needed, hint)
    if exc.errno in FAILED:
        return StorageError(f"cannot write to {path}: {why}{at}", hint=hint or _HOME_HINT, path=str(path))
    return None


def _cannot_be_made(exc: OSError, path: Path) -> bool:
    """Whether ``mkdir(parents=True)`` could not create the folder, or a folder above it is missing.

    A missing folder may also be the expected result of another call, whose error passes unchanged; after a failed
    ``mkdir(parents=True)``, the context of the exception is the same error.
    """
    if exc.errno != errno.ENOENT or not exc.filename:
        return False
    missing = Path(exc.filename)
    return missing in path.parents or (missing == path and isinstance(exc.__context__, FileNotFoundError))


def _full(why: str, path: Path, needed: int | None, hint: str | None) -> DiskFullError:
    free = free_bytes(path)
    figures = [f"{format_bytes(needed)} needed"] if needed is not None else []
    figures += [f"{format_bytes(free)} free"] if free is not None else []
    message = f"no space in {path}: {why}" + (f"; {', '.join(figures)}" if figures else "")
    return DiskFullError(message, hint=hint or _FULL_HINT, path=str(path), free=free, needed=needed)


def free_bytes(path: Path) -> int | None:
    """Bytes that this user can still write at ``path``, which need not exist; None if unknown."""
    for folder in (path, *path.absolute().parents):
        try:
            return shutil.disk_usage(folder).free
        except OSError:  # missing, or no permission: its parent is usually on the same disk
            continue
    return None


def make_cache_folder(root: Path) -> None:
    """Create the folder if it is missing, and mark it as a cache, which backup tools skip.

    Raises:
        NotWritableError: the folder cannot be created.
        DiskFullError: no space for the folder.
    """
    with disk_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), (root / "CACHEDIR.TAG").open("x", encoding="ascii", newline="\n") as file:
            file.write(_CACHEDIR_TAG)
