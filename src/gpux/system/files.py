"""Files and folders: atomic writes, flushing to the disk, walking, deleting, exchanging. Links are never followed."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_AT_FDCWD = -100  # linux/fcntl.h
_RENAME_EXCHANGE = 2  # linux/fs.h


@contextmanager
def replacing(target: Path, temporary: Path | None = None) -> Iterator[Path]:
    """A temporary path beside ``target``, renamed to ``target`` if the block does not raise, and deleted otherwise.

    Args:
        target: readers see the old file or the new one.
        temporary: a fixed name in place of a unique one, for callers that hold a lock: what a killed process left
            there is overwritten.

    Raises:
        OSError: the disk refuses.
    """
    path = temporary or target.with_name(f".{target.name[:100]}.{uuid.uuid4().hex}.part")
    try:
        yield path
        path.replace(target)
    except BaseException:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        raise


def write_atomic(
    path: Path, content: str | bytes, *, flush: bool = False, private: bool = False, temporary: Path | None = None
) -> None:
    """Write a file in one step: readers see the old content or the new one, and after an error the old one.

    Args:
        path: its folder has to exist; a link is replaced, not followed.
        content: text is written as UTF-8 with its line ends unchanged.
        flush: return when file and folder are on the disk, so that the new content survives a power cut.
        private: readable by the owner only, from the first byte on.
        temporary: see :func:`replacing`.

    Raises:
        OSError: the disk refuses.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with replacing(path, temporary) as part:
        # A fixed temporary name may be taken by what a killed process left; a unique one never is.
        existing = os.O_EXCL if temporary is None else os.O_TRUNC
        flags = os.O_WRONLY | os.O_CREAT | existing | getattr(os, "O_BINARY", 0)
        handle = os.open(part, flags, 0o600 if private else 0o666)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if flush:
                file.flush()
                os.fsync(handle)
    if flush:
        sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Return when the file's bytes are on the disk and not only in memory."""
    # Windows flushes only through a handle that may write; elsewhere reading is enough, and works on 0444 files.
    with path.open("rb+" if os.name == "nt" else "rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Return when the folder's list of names is on the disk; a rename or a new file survives a power cut only then."""
    if os.name == "nt":
        return  # Windows cannot open a folder as a file, and keeps names in its journal
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folders(folder: Path) -> None:
    """Flush the lists of names of the folder and of all below it, innermost first."""
    for inner, _, _ in os.walk(folder, topdown=False):
        sync_folder(Path(inner))


def sync_up(folder: Path, top: Path) -> None:
    """Flush the lists of names from ``folder`` up to ``top``: each of the folders may be new."""
    for step in (folder, *folder.parents):
        sync_folder(step)
        if step == top:
            return


@dataclass(frozen=True)
class FoundFile:
    """An entry of a folder that is not a folder: a file, a link, a device."""

    name: str  #: relative to the folder that was walked, with forward slashes
    path: Path
    status: os.stat_result

    @property
    def size(self) -> int:
        """Bytes."""
        return self.status.st_size

    @property
    def is_own(self) -> bool:
        """True for a regular file that shares its bytes with no other name."""
        return stat.S_ISREG(self.status.st_mode) and self.status.st_nlink == 1


def walk(folder: Path, prefix: str = "") -> Iterator[FoundFile]:
    """Every file and link below ``folder``, in the order of names.

    Raises:
        OSError: the folder, or one in it, cannot be read.
    """
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        path = folder / entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from walk(path, f"{prefix}{entry.name}/")
        else:
            yield FoundFile(f"{prefix}{entry.name}", path, path.lstat())


def size_of(folder: Path) -> int:
    """Bytes of all files below ``folder``, or of the file; unreadable and vanishing ones are not counted."""
    total = 0
    with suppress(OSError):
        if folder.is_dir() and not folder.is_symlink():
            for found in walk(folder):
                total += found.size
        else:
            total = folder.lstat().st_size
    return total


def delete(path: Path) -> None:
    """Delete a folder, a file or a link; one that is missing, or that vanishes meanwhile, is not an error.

    Raises:
        OSError: it cannot be deleted.
    """
    while os.path.lexists(path):
        with suppress(FileNotFoundError):  # another process deletes it too: start over with what is left
            if path.is_symlink() or not path.is_dir():
                path.unlink()
            else:
                shutil.rmtree(path)


def remove_empty(folder: Path, top: Path) -> None:
    """Remove ``folder`` and its parents below ``top`` as long as they are empty."""
    with suppress(OSError):  # not empty, or gone: either ends the climb
        while folder != top:
            folder.rmdir()
            folder = folder.parent


def exchange(first: Path, second: Path) -> bool:
    """Swap the names of two folders in one step, so that no reader finds either missing.

    Returns:
        False, with nothing done, where one is missing or the system or its file system cannot.
    """
    if sys.platform != "linux":
        return False
    import ctypes  # takes a while to load, for this alone

    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)  # glibc 2.28, musl 1.2.5
    if renameat2 is None:
        return False
    # Why it failed does not matter: the two renames that follow fail for the same reason, and report it.
    names = (os.fsencode(first), os.fsencode(second))
    return bool(renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], ctypes.c_uint(_RENAME_EXCHANGE)) == 0)
