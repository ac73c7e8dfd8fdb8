"""The content of the Hugging Face cache: repositories, commits, the blobs they share, and partial downloads.

Read from the documented layout (https://huggingface.co/docs/huggingface_hub/guides/manage-cache) with ``scandir`` and
``readlink`` alone; only the small files below ``refs/`` are opened. ``huggingface_hub.scan_cache_dir`` is not used: it
omits a repository altogether for one broken symlink or stale ref, lists neither partial downloads nor blobs that no
commit links to, and always scans the whole cache.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gpux.model.values import Value

Kind = Literal["model", "dataset", "space"]
_KINDS: dict[str, Kind] = {"models": "model", "datasets": "dataset", "spaces": "space"}


@dataclass(frozen=True)
class CachedFile(Value):
    """One entry of a snapshot."""

    path: str  #: relative, with forward slashes
    size: int | None  #: bytes; None if its blob is missing
    blob: str | None  #: name of the blob that it links to; None for a regular file


@dataclass(frozen=True)
class CachedBlob(Value):
    """The content of one or more files, named by its hash."""

    name: str
    size: int  #: bytes
    shared: bool  #: it is a symlink itself, into huggingface_hub's store for all repositories


@dataclass(frozen=True)
class PartialDownload(Value):
    """A download that is running, or that was interrupted."""

    path: Path
    size: int  #: bytes on disk
    ours: bool  #: True for gpux's own, which it resumes; False for another tool's


@dataclass(frozen=True)
class CachedCommit(Value):
    """One snapshot."""

    commit: str
    path: Path
    files: tuple[CachedFile, ...]
    revisions: tuple[str, ...] = ()  #: branches and tags that were last resolved to this commit

    @property
    def blobs(self) -> frozenset[str]:
        """Names of the blobs that it links to, including missing ones."""
        return frozenset(file.blob for file in self.files if file.blob is not None)

    @property
    def size(self) -> int:
        """Bytes of its files, each blob counted once."""
        linked = {file.blob: file.size or 0 for file in self.files if file.blob is not None}
        return sum(linked.values()) + self.own_size

    @property
    def own_size(self) -> int:
        """Bytes of regular files in the snapshot, as in a cache without symlinks."""
        return sum(file.size or 0 for file in self.files if file.blob is None)


@dataclass(frozen=True)
class CachedRepository(Value):
    """One repository, as far as any tool has downloaded it."""

    kind: Kind
    id: str
    path: Path
    commits: tuple[CachedCommit, ...] = ()
    blobs: tuple[CachedBlob, ...] = ()
    partials: tuple[PartialDownload, ...] = ()
    problem: str | None = None  #: why its folder could not be read

    @property
    def size(self) -> int:
        """Bytes that no other repository shares, without partial downloads."""
        return sum(blob.size for blob in self.blobs if not blob.shared) + sum(at.own_size for at in self.commits)

    @property
    def unlinked(self) -> tuple[CachedBlob, ...]:
        """Blobs that no commit links to."""
        linked = frozenset[str]().union(*(commit.blobs for commit in self.commits))
        return tuple(blob for blob in self.blobs if blob.name not in linked)

    def shared_blobs(self, commit: CachedCommit) -> frozenset[str]:
        """Blobs of the commit that other commits link to as well."""
        others = (other.blobs for other in self.commits if other.commit != commit.commit)
        return commit.blobs & frozenset[str]().union(*others)

    def at(self, revision: str | None) -> tuple[CachedCommit, ...]:
        """The commits that a branch, tag, commit or abbreviated commit names; all for None."""
        if revision is None:
            return self.commits
        return tuple(
            commit
            for commit in self.commits
            if revision in commit.revisions or (len(revision) >= 7 and commit.commit.startswith(revision))
        )

    def to_dict(self) -> dict[str, Any]:
        """The repository as JSON-able values, with its size and the size of each commit."""
        commits = [
            {
                "commit": commit.commit,
                "revisions": list(commit.revisions),
                "files": len(commit.files),
                "size": commit.size,
                "shared_blobs": len(self.shared_blobs(commit)),
            }
            for commit in self.commits
        ]
        partials = [partial.to_dict() for partial in self.partials]
        return {
            "kind": self.kind,
            "id": self.id,
            "path": str(self.path),
            "size": self.size,
            "commits": commits,
            "partials": partials,
            "problem": self.problem,
        }


def scan(cache: Path) -> tuple[CachedRepository, ...]:
    """Every repository of the cache; none if the folder does not exist."""
    found = []
    for name in _names(cache):
        kind, separator, rest = name.partition("--")
        if separator and kind in _KINDS:
            found.append(_repository(cache / name, _KINDS[kind], rest.replace("--", "/")))
    return tuple(found)


def scan_model(cache: Path, id: str) -> CachedRepository | None:
    """One model of the cache, or None if the cache does not have it."""
    path = model_folder(cache, id)
    return _repository(path, "model", id) if path.is_dir() else None


def model_folder(cache: Path, id: str) -> Path:
    """The folder of a model."""
    return cache / "--".join(["models", *id.split("/")])


def shared_store(cache: Path) -> Path:
    """The folder of blobs that several repositories share, written by newer versions of huggingface_hub."""
    return cache / "blobs"


def is_partial(name: str) -> bool:
    """True for the name of a partial download or its journal in ``blobs/``."""
    return name.endswith(".incomplete") or ".gpux." in name


def _repository(path: Path, kind: Kind, id: str) -> CachedRepository:
    try:
        blobs, partials = _blobs(path / "blobs")
        sizes = {blob.name: blob.size for blob in blobs}
        commits = tuple(_commits(path, sizes))
    except OSError as exc:
        return CachedRepository(kind, id, path, problem=f"{path} cannot be read: {exc.strerror}")
    return CachedRepository(kind, id, path, commits, tuple(blobs), tuple(partials))


def _blobs(folder: Path) -> tuple[list[CachedBlob], list[PartialDownload]]:
    blobs, partials = [], []
    for entry in _entries(folder):
        with suppress(FileNotFoundError):  # renamed or deleted meanwhile, or a broken symlink
            status = entry.stat()
            if is_partial(entry.name):
                partials.append(PartialDownload(Path(entry.path), _on_disk(status), ".gpux." in entry.name))
            else:
                blobs.append(CachedBlob(entry.name, status.st_size, entry.is_symlink()))
    return blobs, partials


def _commits(repository: Path, sizes: dict[str, int]) -> Iterator[CachedCommit]:
    leading: dict[str, list[str]] = {}
    for revision, commit in _refs(repository / "refs"):
        leading.setdefault(commit, []).append(revision)
    # Compare the end of the path: an absolute symlink starts differently if the cache itself is behind a symlink.
    blobs = os.path.join(os.sep, repository.name, "blobs")  # noqa: PTH118 - compared with thousands of symlinks
    for entry in _entries(repository / "snapshots"):
        if entry.is_dir():
            files = tuple(_files(entry.path, "", blobs, sizes))
            yield CachedCommit(entry.name, Path(entry.path), files, tuple(leading.get(entry.name, ())))


def _files(folder: str, prefix: str, blobs: str, sizes: dict[str, int]) -> Iterator[CachedFile]:
    for entry in _entries(folder):
        name = f"{prefix}{entry.name}"
        if entry.is_symlink():
            yield _linked(entry.path, name, folder, blobs, sizes)
        elif entry.is_dir():
            yield from _files(entry.path, f"{name}/", blobs, sizes)
        else:
            yield CachedFile(name, entry.stat().st_size, None)


def _linked(path: str, name: str, folder: str, blobs: str, sizes: dict[str, int]) -> CachedFile:
    target, blob = os.path.split(os.path.normpath(os.path.join(folder, os.readlink(path))))  # noqa: PTH115, PTH118
    if target.endswith(blobs):
        return CachedFile(name, sizes.get(blob), blob)
    try:
        return CachedFile(name, os.stat(path).st_size, None)  # noqa: PTH116
    except OSError:
        return CachedFile(name, None, None)


def _refs(folder: Path, prefix: str = "") -> Iterator[tuple[str, str]]:
    for entry in _entries(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _refs(Path(entry.path), f"{prefix}{entry.name}/")
        else:
            with suppress(OSError, UnicodeDecodeError):
                yield f"{prefix}{entry.name}", Path(entry.path).read_text(encoding="ascii").strip()


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []


def _names(folder: Path) -> Iterable[str]:
    with suppress(NotADirectoryError):
        return [entry.name for entry in _entries(folder) if entry.is_dir()]
    return []


def _on_disk(status: os.stat_result) -> int:
    """Bytes that a partial file occupies; it may be sparse."""
    blocks: int | None = getattr(status, "st_blocks", None)
    return status.st_size if blocks is None else min(status.st_size, 512 * blocks)
