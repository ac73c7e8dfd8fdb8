"""What the disk answers: refusals and lack of space as typed errors, by errno, in one place."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gpux.errors import DiskFullError, NotWritableError, StorageError

#: The folder, or something on the way to it, cannot be written. EEXIST and ENOTDIR: a file stands where a folder must.
REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST})
#: No room: on the disk, in the user's quota, in the largest file that the system or its limits allow.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: The disk itself fails, or cannot take such a name or such a move.
FAILED = frozenset({errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.ELOOP, errno.ENAMETOOLONG, errno.EXDEV})

_CACHEDIR_TAG = """Signature: 8a477f597d28d172789f06886806bc55
# This file is a cache directory tag created by gpux.
# For information about cache directory tags, see https://bford.info/cachedir/
"""

_HOME_HINT = "Make the folder writable, or let GPUX_HOME name another one."
_FULL_HINT = "`gpux prune` and `gpux rm` free space; GPUX_HOME moves gpux's folder to another disk."


@contextmanager
def disk_errors(path: Path, *, needed: int | None = None, hint: str | None = None) -> Iterator[None]:
    """Run a block that writes to the folder ``path``; what the disk refuses comes out typed.

    ``needed`` is the number of bytes that the block is about to write, where it is known; ``hint`` replaces the
    one that names GPUX_HOME. Errors that say nothing about the disk (no such file …) pass unchanged, but for that
    of a place where no folder can be made, as in ``/proc``.

    Raises:
        NotWritableError: no permission, a read-only disk, a file in the place of a folder, or no place for one.
        DiskFullError: no space, quota or file size limit; ``details`` has ``free`` and ``needed``.
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
    """True where ``mkdir(parents=True)`` found no place for the folder, or one above it is missing.

    That the folder itself is missing may also be the answer to a question about it, which is the caller's to read;
    ``mkdir`` has met the same error a moment before, as the exception's context tells.
    """
    if exc.errno != errno.ENOENT or not exc.filename:
        return False
    missing = Path(exc.filename)
    return missing in path.parents or (missing == path and isinstance(exc.__context__, FileNotFoundError))


def _full(why: str, path: Path, needed: int | None, hint: str | None) -> DiskFullError:
    free = free_bytes(path)
    figures = [f"{format_bytes(needed)} needed"] if needed is not None else []
    figures += [f"{format_bytes(free)} free"] if free is not None else []
    message = f"no room in {path}: {why}" + (f"; {', '.join(figures)}" if figures else "")
    return DiskFullError(message, hint=hint or _FULL_HINT, path=str(path), free=free, needed=needed)


def free_bytes(path: Path) -> int | None:
    """Bytes that this user may still write where ``path`` is or will be; None where the system does not tell."""
    for folder in (path, *path.absolute().parents):
        try:
            return shutil.disk_usage(folder).free
        except OSError:  # not there yet, or not ours to look at: its parent is on the same disk or says as much
            continue
    return None


def make_cache_folder(root: Path) -> None:
    """Make the folder where it is not there, and mark it as a cache, which backup tools skip.

    Raises:
        NotWritableError: the folder refuses.
        DiskFullError: no room for it.
    """
    with disk_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), (root / "CACHEDIR.TAG").open("x", encoding="ascii", newline="\n") as file:
            file.write(_CACHEDIR_TAG)


def format_bytes(count: int) -> str:
    """The count in the unit that a person would choose: ``87.3 MB``."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if round(size, 1) < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
