"""Removal of source files: the snapshots of some commits, and the blobs that no other commit links to.

The cache is shared. A blob is removed under the cache's lock of that blob, which every tool holds while it downloads
it; while any blob of a repository is being downloaded, nothing of the repository is removed. Partial downloads of other
tools are kept. ``DeleteCacheStrategy`` of huggingface_hub is not used: it holds none of these locks.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gpux.errors import StorageError
from gpux.model.info import ModelInfo
from gpux.model.values import Value
from gpux.source_cache.scan import CachedCommit, CachedRepository, scan_model
from gpux.system.cancel import CancelToken
from gpux.system.disk import disk_errors

_HINT = "Make it writable, or run the same command where it is."


@dataclass(frozen=True)
class SourceRemoval(Value):
    """One step of a plan."""

    path: Path
    title: str  #: a description, for display
    reason: str
    size: int  #: bytes that it frees
    commit: str | None = None  #: None: the blobs that no commit uses


@dataclass(frozen=True)
class SourceRemovalPlan(Value):
    """The source files to remove; nothing is removed before :meth:`execute`."""

    cache: Path
    id: str
    removals: tuple[SourceRemoval, ...]
    kept: int = 0  #: bytes that are kept because other commits use them

    @property
    def bytes_freed(self) -> int:
        """Bytes of all removals."""
        return sum(removal.size for removal in self.removals)

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON-able values, with ``bytes_freed``."""
        return {"bytes_freed": self.bytes_freed, **super().to_dict()}

    def execute(self, *, cancel: CancelToken | None = None) -> int:
        """Remove the files; returns the bytes that were freed.

        The cache is scanned again: a blob that another commit links to by now is kept.

        Raises:
            StorageError: files of the repository are being downloaded; nothing was removed.
            NotWritableError: the cache cannot be written; files removed before stay removed.
            CancelledError: ``cancel`` was set; files removed before stay removed.
        """
        repository = scan_model(self.cache, self.id)
        if repository is None or not self.removals:
            return 0
        with disk_errors(repository.path, hint=_HINT):
            if is_downloading(self.cache, repository):
                raise StorageError(
                    f"files of {self.id} are being downloaded; its source files are kept",
                    hint="Run the same command again when the download has ended.",
                    model=self.id,
                )
            wanted = {removal.commit for removal in self.removals}
            return _Executor(self.cache, repository, cancel or CancelToken()).remove(wanted)


def plan_source_removal(cache: Path, id: str, commits: tuple[CachedCommit, ...] | None = None) -> SourceRemovalPlan:
    """Plan the removal of some commits of a model, or of all its commits.

    With the last commit, blobs that no commit uses and gpux's own partial downloads are removed too.
    """
    repository = scan_model(cache, id)
    if repository is None:
        return SourceRemovalPlan(cache, id, ())
    going = repository.commits if commits is None else commits
    left = [commit for commit in repository.commits if commit.commit not in {at.commit for at in going}]
    needed = frozenset[str]().union(*(commit.blobs for commit in left))
    sizes = {blob.name: 0 if blob.shared else blob.size for blob in repository.blobs}
    removals, counted = [], set(needed)
    for commit in going:
        freed = sum(sizes.get(name, 0) for name in commit.blobs - counted) + commit.own_size
        counted |= commit.blobs
        title = f"source of {id}@{commit.commit[:12]}"
        removals.append(SourceRemoval(commit.path, title, "requested", freed, commit.commit))
    unused = sum(sizes[name] for name in _unused(repository)) + _ours(repository)
    if not left and unused:
        blobs = repository.path / "blobs"
        removals.append(SourceRemoval(blobs, f"source of {id}", "used by no commit", unused))
    kept = sum(sizes.get(name, 0) for name in needed & frozenset[str]().union(*(at.blobs for at in going)))
    return SourceRemovalPlan(cache, id, tuple(removals), kept)


def discard_source(model: ModelInfo | str, commit: str, cache: Path) -> int:
    """Remove the source files of one commit that no other commit uses; returns the bytes that were freed.

    Returns 0 without removing anything if the cache does not have the commit, or while any tool downloads files of the
    repository. Partial downloads are kept.

    Raises:
        NotWritableError: the cache cannot be written.
    """
    id = model if isinstance(model, str) else model.id
    repository = scan_model(cache, id)
    commits = tuple(at for at in repository.commits if at.commit == commit) if repository else ()
    if repository is None or not commits:
        return 0
    with disk_errors(repository.path, hint=_HINT):
        if is_downloading(cache, repository):
            return 0
        return _Executor(cache, repository, CancelToken()).remove({commit})


def remove_unlinked(cache: Path, id: str, names: frozenset[str]) -> int:
    """Remove those of the named blobs that no commit links to; returns the bytes that were freed.

    Raises:
        NotWritableError: the cache cannot be written.
    """
    repository = scan_model(cache, id)
    if repository is None:
        return 0
    unlinked = {blob.name for blob in repository.unlinked}
    with disk_errors(repository.path, hint=_HINT):
        return _Executor(cache, repository, CancelToken()).remove_blobs(names & unlinked)


def is_downloading(cache: Path, repository: CachedRepository) -> bool:
    """True while any process holds one of the cache's locks of this repository."""
    for file in _lock_folder(cache, repository).glob("*.lock"):
        with _try_lock(file) as free:
            if not free:
                return True
    return False


@dataclass(frozen=True)
class _Executor:
    cache: Path
    repository: CachedRepository
    cancel: CancelToken

    def remove(self, wanted: set[str | None]) -> int:
        going = [commit for commit in self.repository.commits if commit.commit in wanted]
        for commit in going:
            self.cancel.check()
            self._remove_snapshot(commit)
        blobs = frozenset[str]().union(*(commit.blobs for commit in going))
        if None in wanted:
            blobs |= _unused(self.repository)
        freed = sum(commit.own_size for commit in going) + self.remove_blobs(blobs)
        if None in wanted:
            freed += self._remove_partials()
        left = scan_model(self.cache, self.repository.id)
        if left is not None and not left.commits:
            self._remove_empty()
        return freed

    def remove_blobs(self, names: frozenset[str]) -> int:
        """Remove the named blobs that no snapshot links to by now."""
        now = scan_model(self.cache, self.repository.id)
        if now is None:
            return 0
        needed = frozenset[str]().union(*(commit.blobs for commit in now.commits))
        freed = 0
        for blob in now.blobs:
            self.cancel.check()
            if blob.name in names - needed:
                with self._lock(blob.name) as free:
                    freed += _unlink(now.path / "blobs" / blob.name, 0 if blob.shared else blob.size) if free else 0
        return freed

    def _remove_snapshot(self, commit: CachedCommit) -> None:
        """Remove a snapshot, its refs first, so that no reader finds half of it."""
        for revision in commit.revisions:
            (self.repository.path / "refs" / revision).unlink(missing_ok=True)
        (self.repository.path / "trees" / f"{commit.commit}.json").unlink(missing_ok=True)
        for folder in (commit.path, self.repository.path / ".no_exist" / commit.commit):
            with suppress(FileNotFoundError):
                shutil.rmtree(folder)

    def _remove_partials(self) -> int:
        freed = 0
        for partial in self.repository.partials:
            if partial.ours:
                with self._lock(partial.path.name.partition(".")[0]) as free:
                    freed += _unlink(partial.path, partial.size) if free else 0
        return freed

    def _remove_empty(self) -> None:
        """Remove the empty folders of the repository, its own folder last."""
        below = [folder for folder in self.repository.path.rglob("*") if folder.is_dir() and not folder.is_symlink()]
        for folder in [*sorted(below, key=lambda path: -len(path.parts)), self.repository.path]:
            with suppress(OSError):
                folder.rmdir()

    @contextmanager
    def _lock(self, etag: str) -> Iterator[bool]:
        folder = _lock_folder(self.cache, self.repository)
        folder.mkdir(parents=True, exist_ok=True)
        with _try_lock(folder / f"{etag}.lock") as free:
            yield free


def _unused(repository: CachedRepository) -> frozenset[str]:
    return frozenset(blob.name for blob in repository.unlinked)


def _ours(repository: CachedRepository) -> int:
    return sum(partial.size for partial in repository.partials if partial.ours)


def _lock_folder(cache: Path, repository: CachedRepository) -> Path:
    return cache / ".locks" / repository.path.name


def _unlink(path: Path, size: int) -> int:
    with suppress(FileNotFoundError):
        path.unlink()
        return size
    return 0


@contextmanager
def _try_lock(file: Path) -> Iterator[bool]:
    lock = FileLock(file, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    except NotImplementedError as exc:
        raise StorageError(f"the file system of {file.parent} has no file locks; nothing was removed") from exc
    try:
        yield True
    finally:
        lock.release()
