"""Files, trees and commits with the ids of git and git-LFS.

A regular file's id is its git blob id, an LFS file's the git blob id of its pointer text. Directories are git
trees. A commit's id is the hash of its root tree and the repository's id: equal content has an equal
commit id on every server.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TypeAlias

_digests: dict[tuple[int, int, int, int, bool], str] = {}
_digest_lock = threading.Lock()


@dataclass(frozen=True)
class LfsRule:
    """Which files go to LFS: those of a matching name and those of at least `threshold` bytes."""

    patterns: tuple[str, ...]
    threshold: int

    def applies(self, path: str, size: int) -> bool:
        """Whether a file goes to LFS."""
        name = path.rsplit("/", 1)[-1]
        return size >= self.threshold or any(fnmatch(name, pattern) for pattern in self.patterns)


@dataclass(frozen=True)
class Blob:
    """One file of a commit. `oid` is its git blob id; `sha256` is set for LFS files only."""

    path: str
    file: Path
    size: int
    oid: str
    sha256: str | None = None

    @property
    def etag(self) -> str:
        """The name of a client's cached copy: 64 hex digits for LFS files, 40 for others."""
        return self.sha256 or self.oid

    @property
    def pointer_size(self) -> int:
        """The length of the LFS pointer text, which git stores in place of the file."""
        return len(_pointer(self.sha256 or "", self.size))


@dataclass(frozen=True)
class Commit:
    """A state of a repository: all files by path, and the git tree ids of all directories but the root."""

    sha: str
    files: Mapping[str, Blob]
    directories: Mapping[str, str]

    @property
    def size(self) -> int:
        """Bytes in all files."""
        return sum(blob.size for blob in self.files.values())


def read_commit(repo_id: str, folder: Path, rule: LfsRule) -> Commit:
    """Reads and hashes all files below `folder`. Links to files are followed, links to folders are not."""
    files: dict[str, Blob] = {}
    for path, file in sorted(_files_below(folder)):
        files[path] = _read_blob(path, file, rule)
    directories: dict[str, str] = {}
    root = _hash_tree(_nest(files), "", directories)
    sha = git_oid("commit", f"tree {root}\n\n{repo_id}\n".encode())
    return Commit(sha, files, dict(sorted(directories.items())))


def git_oid(kind: str, data: bytes) -> str:
    """The id of a git object: sha1 over a header of kind and length, a NUL, and the data."""
    return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data).hexdigest()


def _pointer(sha256: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def _files_below(folder: Path) -> Iterator[tuple[str, Path]]:
    for parent, _, names in os.walk(folder):
        for name in names:
            file = Path(parent, name)
            yield file.relative_to(folder).as_posix(), file


def _read_blob(path: str, file: Path, rule: LfsRule) -> Blob:
    size = file.stat().st_size
    if rule.applies(path, size):
        sha256 = _digest(file, lfs=True)
        return Blob(path, file, size, git_oid("blob", _pointer(sha256, size)), sha256)
    return Blob(path, file, size, _digest(file, lfs=False))


def _digest(file: Path, *, lfs: bool) -> str:
    """The sha256 or the git blob id of a file. A file is hashed once per process, also under several links."""
    stat = file.stat()
    key = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, lfs)
    with _digest_lock:
        if key not in _digests:
            state = hashlib.sha256() if lfs else hashlib.sha1(f"blob {stat.st_size}\0".encode())
            with file.open("rb") as opened:
                while chunk := opened.read(1 << 20):
                    state.update(chunk)
            _digests[key] = state.hexdigest()
        return _digests[key]


_Tree: TypeAlias = "dict[str, Blob | _Tree]"


def _nest(files: Mapping[str, Blob]) -> _Tree:
    root: _Tree = {}
    for path, blob in files.items():
        *parents, name = path.split("/")
        tree = root
        for parent in parents:
            below = tree.setdefault(parent, {})
            assert isinstance(below, dict)  # A path is a file or a directory on disk, never both.
            tree = below
        tree[name] = blob
    return root


def _hash_tree(tree: _Tree, path: str, found: dict[str, str]) -> str:
    """The git id of a tree; the ids of the trees below are stored in `found`. Git sorts a directory as `name/`."""
    entries: list[tuple[str, bytes]] = []
    for name, entry in tree.items():
        if isinstance(entry, Blob):
            entries.append((name, f"100644 {name}\0".encode() + bytes.fromhex(entry.oid)))
        else:
            below = f"{path}{name}"
            found[below] = _hash_tree(entry, f"{below}/", found)
            entries.append((f"{name}/", f"40000 {name}\0".encode() + bytes.fromhex(found[below])))
    return git_oid("tree", b"".join(data for _, data in sorted(entries, key=lambda item: item[0].encode())))
