"""Building a variant: it becomes visible by one rename, complete and flushed to the disk.

Files are placed by reflink or copy: a variant holds real files, never links.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace as with_fields
from pathlib import Path
from typing import BinaryIO

from gpux.errors import StorageError
from gpux.model.variant import Manifest, StoredFile, StoredModel
from gpux.store.layout import Layout
from gpux.store.listing import read_variant
from gpux.store.manifest import MANIFEST, timestamp, write_manifest
from gpux.store.verify import verify
from gpux.system import files, locks
from gpux.system.cancel import CancelToken
from gpux.system.disk import disk_errors, make_cache_folder
from gpux.system.files import exchange, sync_file
from gpux.system.hashing import HashJob, Meter, hash_files
from gpux.system.progress import ProgressCallback, silent

_FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
_CHUNK = 1 << 20
_ATTEMPTS = 20  # other processes may remove an empty parent folder or commit first; each attempt makes progress
_OCCUPIED = frozenset({errno.EEXIST, errno.ENOTEMPTY})


class Staging:
    """Two empty folders of one pull, created by ``Store.staging()``."""

    def __init__(self, layout: Layout, folder: Path) -> None:
        self._layout = layout
        self._committed = False
        self.path = folder / "variant"  #: becomes the variant; on the same file system as the store
        self.scratch = folder / "scratch"  #: for temporary files; deleted at the end of the context

    def commit(
        self,
        manifest: Manifest,
        *,
        replace: bool = False,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> StoredModel:
        """Hash and flush every file of :attr:`path`, write the manifest, and make the variant visible in one step.

        ``manifest.files`` is filled in here, and ``created`` if it is empty. If another process has committed the same
        variant, and it is complete, that one is returned instead; with ``replace`` the new variant replaces it.

        Raises:
            ManifestError: the manifest names a missing graph, or cannot be written.
            StorageError: a file is a link (see ``gpux.store.place``), or this staging was committed before.
            NotWritableError: the store is not writable.
            DiskFullError: no space for the manifest.
            CancelledError: ``cancel`` was set; nothing became visible.
        """
        if self._committed:
            raise StorageError(f"{manifest.id} was committed already: each staging builds one variant")
        with disk_errors(self._layout.root):
            described_files = self._describe(progress or silent, cancel)
            created = manifest.created or timestamp()
            described = with_fields(manifest, files=described_files, created=created)
            written = write_manifest(self.path / MANIFEST, described)
            files.sync_folders(self.path)
            self._committed = True
            return self._publish(written, replace)

    def _describe(self, progress: ProgressCallback, cancel: CancelToken | None) -> tuple[StoredFile, ...]:
        found = list(files.walk(self.path))
        shared = next((file for file in found if not file.is_own), None)
        if shared is not None:
            hint = "Add files with gpux.store.place()."
            raise StorageError(f"{shared.name} is a link: a variant holds real files", hint=hint)
        jobs = [HashJob(file.path, "sha256", file.size, file.name) for file in found]
        digests = hash_files(jobs, Meter("store", sum(job.size for job in jobs), progress), cancel)
        return tuple(self._described(file, digest) for file, digest in zip(found, digests, strict=True))

    def _described(self, file: files.FoundFile, digest: str | OSError) -> StoredFile:
        if isinstance(digest, OSError):
            raise digest
        sync_file(file.path)
        return StoredFile(file.name, file.size, digest)

    def _publish(self, manifest: Manifest, replace: bool) -> StoredModel:
        target = self._layout.variant(manifest.key)
        for _ in range(_ATTEMPTS):
            target.parent.mkdir(parents=True, exist_ok=True)
            if self._rename_to(target):
                return self._published(target, manifest)
            standing = read_variant(self._layout, target)
            if not replace and isinstance(standing, StoredModel) and verify(standing, hashes=False).ok:
                return standing
            if exchange(self.path, target):  # the replaced variant is deleted with the staging folder
                return self._published(target, manifest)
            discard(self._layout, target)
        raise StorageError(f"other processes keep replacing {target}", hint="Run the same command again.")

    def _published(self, target: Path, manifest: Manifest) -> StoredModel:
        files.sync_up(target.parent, self._layout.root)
        return StoredModel(target, manifest)

    def _rename_to(self, target: Path) -> bool:
        try:
            self.path.rename(target)
        except FileNotFoundError:  # a removal deleted the empty parent: create it again
            return False
        except OSError as exc:
            if exc.errno not in _OCCUPIED:
                raise
            return False
        return True


@contextmanager
def open_staging(layout: Layout) -> Iterator[Staging]:
    """A new :class:`Staging`; its folders are deleted when the context ends.

    Its lock is held meanwhile, which distinguishes a folder in use from what a killed process left.

    Raises:
        NotWritableError: the store is not writable.
        DiskFullError: no space for a folder.
    """
    make_cache_folder(layout.root)
    with disk_errors(layout.root):
        layout.staging.mkdir(exist_ok=True)
    folder = layout.staging / secrets.token_hex(8)
    try:
        with locks.hold(lock_of(folder)):
            try:
                staging = Staging(layout, folder)
                with disk_errors(layout.root):
                    staging.path.mkdir(parents=True)
                    staging.scratch.mkdir()
                yield staging
            finally:
                # Before the folder, so that no lock file remains alone; Windows allows it only after the release below.
                drop_lock(folder)
                with suppress(OSError):  # a folder without a lock is dead: prune deletes the rest
                    files.delete(folder)
    finally:
        drop_lock(folder)


def lock_of(folder: Path) -> Path:
    """Lock file that is held as long as the staging folder is in use."""
    return folder.with_name(f"{folder.name}.lock")


def drop_lock(folder: Path) -> None:
    """Delete the lock file of a staging folder; a folder without one counts as dead."""
    with suppress(OSError):
        lock_of(folder).unlink(missing_ok=True)


def discard(layout: Layout, folder: Path) -> bool:
    """Move a folder to the trash in one step, then delete it; False if it was missing.

    Raises:
        OSError: the folder cannot be renamed. Files that cannot be deleted are left to prune.
    """
    layout.trash.mkdir(parents=True, exist_ok=True)
    trashed = layout.trash / secrets.token_hex(8)
    try:
        folder.rename(trashed)
    except FileNotFoundError:
        return False
    with suppress(OSError):
        files.delete(trashed)
    return True


def place(source: Path, target: Path) -> None:
    """Create the regular file ``target`` with the content of ``source``, which may be a link.

    A reflink where the file system supports them, a copy elsewhere; never a hard or symbolic link, through which
    damage to the source would damage the store. An existing ``target`` is replaced, and deleted after an error.

    Raises:
        FileNotFoundError: ``source`` is missing.
        NotWritableError: the folder of ``target`` is not writable.
        DiskFullError: no space for the file.
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
    """Whether the file system shared the blocks of the two files, copy-on-write (btrfs, XFS, bcachefs)."""
    if sys.platform != "linux":
        return False
    import fcntl  # not on Windows

    try:
        fcntl.ioctl(copy.fileno(), _FICLONE, original.fileno())
    except OSError:  # two file systems, or one without reflinks; other errors recur when copying
        return False
    return True
