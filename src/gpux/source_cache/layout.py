"""The layout of the standard Hugging Face cache, whose files every Hugging Face tool shares.

``models--org--name/{blobs,snapshots,refs}`` beside ``.locks/`` (https://huggingface.co/docs/huggingface_hub/guides/
manage-cache). Partial downloads of gpux have names of their own: huggingface_hub 0.x resumes ``<etag>.incomplete`` as
a prefix without checking it, and a file that gpux writes has gaps.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from gpux.model.info import ModelFile
from gpux.system.cancel import CancelToken
from gpux.system.files import replacing

LOCK_POLL = 0.1  # seconds


@dataclass(frozen=True)
class BlobPaths:
    """The paths of one blob: complete, partial, and the journal of its ranges."""

    blob: Path
    partial: Path
    journal: Path


class HubCache:
    """Paths and links of one repository in the cache."""

    def __init__(self, root: Path, model: str) -> None:
        folder = "--".join(["models", *model.split("/")])
        self.repository = root / folder
        self._locks = root / ".locks" / folder

    def blob(self, etag: str) -> Path:
        """The path of the content with that hash."""
        return self.repository / "blobs" / etag

    def partial(self, etag: str) -> Path:
        """The path of the blob while it is being downloaded."""
        return self.repository / "blobs" / f"{etag}.gpux.incomplete"

    def journal(self, etag: str) -> Path:
        """The path of the list of ranges that the partial file has."""
        return self.repository / "blobs" / f"{etag}.gpux.journal"

    def blob_paths(self, etag: str) -> BlobPaths:
        """All three paths."""
        return BlobPaths(self.blob(etag), self.partial(etag), self.journal(etag))

    def snapshot(self, commit: str) -> Path:
        """The folder of one commit."""
        return self.repository / "snapshots" / commit

    def present(self, commit: str, file: ModelFile) -> Path | None:
        """The path of the file if the cache has it in full length, else None."""
        for path in (self.snapshot(commit) / file.path, self.blob(file.etag or "-")):
            try:
                size = path.stat().st_size
            except OSError:
                continue
            if file.size is None or size == file.size:
                return path
        return None

    def link(self, commit: str, file: ModelFile) -> Path:
        """Create the snapshot's entry for an existing blob: a relative symlink, or a copy where symlinks are denied.

        An entry that leads to the blob is left as it is.

        Raises:
            OSError: the file system refuses.
        """
        entry = self.snapshot(commit) / file.path
        blob = self.blob(file.etag or "-")
        if entry.exists() and entry.samefile(blob):
            return entry
        entry.parent.mkdir(parents=True, exist_ok=True)
        up = "../" * len(PurePosixPath(file.path).parts)
        with replacing(entry) as temporary:
            try:
                temporary.symlink_to(f"{up}../blobs/{blob.name}")
            except OSError:  # Windows without the privilege to create symlinks
                shutil.copyfile(blob, temporary)
        return entry

    def record_revision(self, revision: str, commit: str) -> None:
        """Write ``refs/<revision>``, so that any tool can resolve it offline.

        Raises:
            OSError: the file system refuses.
        """
        file = self.repository / "refs" / revision
        if self.revision(revision) == commit:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary:
            temporary.write_text(commit, encoding="ascii")

    def revision(self, revision: str) -> str | None:
        """The commit that a revision was last resolved to."""
        try:
            return (self.repository / "refs" / revision).read_text(encoding="ascii").strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    def commits(self) -> tuple[str, ...]:
        """The commits that have a folder, the one that changed last at the end."""
        try:
            found = [(entry.stat().st_mtime_ns, entry.name) for entry in (self.repository / "snapshots").iterdir()]
        except OSError:
            return ()
        return tuple(name for _, name in sorted(found))

    def files(self, commit: str) -> tuple[ModelFile, ...]:
        """The files of a commit that are in the cache, with hashes from the names of their blobs."""
        folder = self.snapshot(commit)
        return tuple(
            _cached_file(entry, entry.relative_to(folder).as_posix())
            for entry in sorted(folder.rglob("*"))
            if entry.is_file()
        )

    @contextmanager
    def lock(self, etag: str, cancel: CancelToken) -> Iterator[None]:
        """The cache's lock of one blob, which huggingface_hub too holds while it downloads that blob."""
        self._locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._locks / f"{etag}.lock")
        while True:
            cancel.check()
            try:
                lock.acquire(timeout=LOCK_POLL)
                break
            except Timeout:
                continue
        try:
            yield
        finally:
            lock.release()


def _cached_file(entry: Path, path: str) -> ModelFile:
    name = entry.resolve().name
    hexadecimal = all(character in "0123456789abcdef" for character in name)
    return ModelFile(
        path,
        entry.stat().st_size,
        blob_id=name if hexadecimal and len(name) == 40 else None,
        sha256=name if hexadecimal and len(name) == 64 else None,
    )
