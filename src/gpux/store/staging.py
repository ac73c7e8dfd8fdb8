"""A variant in the making: invisible until one rename puts it into place, whole and flushed to the disk."""

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
_ATTEMPTS = 20  # others may remove an empty parent folder or win the place in between; each try makes progress
_OCCUPIED = frozenset({errno.EEXIST, errno.ENOTEMPTY})


class Staging:
    """Two empty folders of one pull, made by ``Store.staging()``."""

    def __init__(self, layout: Layout, folder: Path) -> None:
        self._layout = layout
        self._committed = False
        self.path = folder / "variant"  #: becomes the variant; on the same file system as the store
        self.scratch = folder / "scratch"  #: never becomes part of it, and goes with the context

    def commit(
        self,
        manifest: Manifest,
        *,
        replace: bool = False,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> StoredModel:
        """Hash and flush every file of :attr:`path`, write the manifest, and make the variant visible in one step.

        ``manifest.files`` is filled in here, ``created`` too where it is empty. A whole variant that stands there
        already, since another process was faster, is returned instead; ``replace`` puts the new one in its place.

        Raises:
            ManifestError: the manifest names a graph that is not there, or cannot be written.
            StorageError: a file is a link (see ``gpux.store.place``), or this was committed before.
            NotWritableError: the store's folder refuses.
            DiskFullError: no room for the manifest.
            CancelledError: ``cancel`` was set; nothing became visible.
        """
        if self._committed:
            raise StorageError(f"{manifest.id} was committed already: one staging makes one variant")
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
            hint = "Bring files in with gpux.store.place()."
            raise StorageError(f"{shared.name} is no file of its own but a link: a variant holds real files", hint=hint)
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
            if exchange(self.path, target):  # what stood there goes with the staging folder
                return self._published(target, manifest)
            discard(self._layout, target)
        raise StorageError(f"other processes keep replacing {target}", hint="Run the same command again.")

    def _published(self, target: Path, manifest: Manifest) -> StoredModel:
        files.sync_up(target.parent, self._layout.root)
        return StoredModel(target, manifest)

    def _rename_to(self, target: Path) -> bool:
        try:
            self.path.rename(target)
        except FileNotFoundError:  # a removal took the empty parent: make it again
            return False
        except OSError as exc:
            if exc.errno not in _OCCUPIED:
                raise
            return False
        return True


@contextmanager
def open_staging(layout: Layout) -> Iterator[Staging]:
    """A new :class:`Staging`; its folders go when the context ends.

    Its lock is held meanwhile, so that what a killed process leaves behind can be told from what is in use.

    Raises:
        NotWritableError: the store's folder refuses.
        DiskFullError: no room for a folder.
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
                # Before the folder, so that no lock file stays behind alone; Windows lets go of it only below.
                drop_lock(folder)
                with suppress(OSError):  # what cannot be deleted now is dead without its lock, and prune's
                    files.delete(folder)
    finally:
        drop_lock(folder)


def lock_of(folder: Path) -> Path:
    """Lock file that is held as long as the staging folder is in use."""
    return folder.with_name(f"{folder.name}.lock")


def drop_lock(folder: Path) -> None:
    """Delete the lock file of a staging folder that is done with; a folder without one counts as dead."""
    with suppress(OSError):
        lock_of(folder).unlink(missing_ok=True)


def discard(layout: Layout, folder: Path) -> bool:
    """Take a folder out of sight in one step, then delete it; False if it was gone already.

    Raises:
        OSError: it cannot be renamed. That it cannot be deleted is left to prune.
    """
    layout.trash.mkdir(parents=True, exist_ok=True)
    grave = layout.trash / secrets.token_hex(8)
    try:
        folder.rename(grave)
    except FileNotFoundError:
        return False
    with suppress(OSError):
        files.delete(grave)
    return True


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
