"""A folder of files: walk it, measure it, flush it, delete it. Links are never followed."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpux.system.disk import sync_folder


@dataclass(frozen=True)
class Found:
    """Something in a folder that is no folder itself."""

    name: str  #: relative to the folder, with forward slashes
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


def walk(folder: Path, prefix: str = "") -> Iterator[Found]:
    """Everything below ``folder`` that is no folder, in the order of names.

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
            yield Found(f"{prefix}{entry.name}", path, path.lstat())


def size_of(folder: Path) -> int:
    """Bytes of all files below, of those that could be seen: it may be vanishing meanwhile."""
    total = 0
    with suppress(OSError):
        if folder.is_dir() and not folder.is_symlink():
            for found in walk(folder):
                total += found.size
        else:
            total = folder.lstat().st_size
    return total


def sync_folders(folder: Path) -> None:
    """Flush the lists of names of the folder and of all below it, innermost first."""
    for inner, _, _ in os.walk(folder, topdown=False):
        sync_folder(Path(inner))


def sync_up(folder: Path, top: Path) -> None:
    """Flush the lists of names from ``folder`` up to ``top``: each of them may be new."""
    for step in (folder, *folder.parents):
        sync_folder(step)
        if step == top:
            return


def delete(path: Path) -> None:
    """Delete a folder, a file or a link; it may be gone already, or be vanishing.

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
    """Remove ``folder`` and its parents below ``top``, as far as they are empty."""
    with suppress(OSError):  # not empty, or gone: either ends the climb
        while folder != top:
            folder.rmdir()
            folder = folder.parent
