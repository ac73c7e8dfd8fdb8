"""The standard Hugging Face cache, as huggingface_hub lays it out, so that every tool shares its files.

``models--org--name/{blobs,snapshots,refs}`` beside ``.locks/`` (https://huggingface.co/docs/huggingface_hub/guides/
manage-cache). A partial download of ours has a name of its own: client line 0.x takes ``<etag>.incomplete`` for a
good prefix without looking.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from gpux.model.info import ModelFile
from gpux.system.cancel import CancelToken

LOCK_POLL = 0.1  # seconds


@dataclass(frozen=True)
class Places:
    """Where one blob lies: whole, growing, and the journal of its ranges."""

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
        """Where the content with that hash lies."""
        return self.repository / "blobs" / etag

    def partial(self, etag: str) -> Path:
        """Where it grows until it is whole."""
        return self.repository / "blobs" / f"{etag}.gpux.incomplete"

    def journal(self, etag: str) -> Path:
        """What tells which ranges of the partial file are good."""
        return self.repository / "blobs" / f"{etag}.gpux.journal"

    def places(self, etag: str) -> Places:
        """All of these."""
        return Places(self.blob(etag), self.partial(etag), self.journal(etag))

    def snapshot(self, commit: str) -> Path:
        """The folder of one commit."""
        return self.repository / "snapshots" / commit

    def present(self, commit: str, file: ModelFile) -> Path | None:
        """The file as the cache has it, in full length, or None."""
        for path in (self.snapshot(commit) / file.path, self.blob(file.etag or "-")):
            try:
                size = path.stat().st_size
            except OSError:
                continue
            if file.size is None or size == file.size:
                return path
        return None

    def link(self, commit: str, file: ModelFile) -> Path:
        """Make the snapshot's entry for a blob that is there: a relative link, a copy where links are not allowed."""
        entry = self.snapshot(commit) / file.path
        blob = self.blob(file.etag or "-")
        if not blob.exists() and entry.exists():
            return entry  # a cache without links keeps the content here
        entry.parent.mkdir(parents=True, exist_ok=True)
        up = "../" * len(PurePosixPath(file.path).parts)
        with _replaced(entry) as temporary:
            try:
                temporary.symlink_to(f"{up}../blobs/{blob.name}")
            except OSError:  # Windows without the right to make links
                shutil.copyfile(blob, temporary)
        return entry

    def record_revision(self, revision: str, commit: str) -> None:
        """Write ``refs/<revision>``, so that any tool can resolve it offline."""
        file = self.repository / "refs" / revision
        if self.revision(revision) == commit:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        with _replaced(file) as temporary:
            temporary.write_text(commit, encoding="ascii")

    def revision(self, revision: str) -> str | None:
        """The commit that a revision was resolved to when it was last asked."""
        try:
            return (self.repository / "refs" / revision).read_text(encoding="ascii").strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    def files(self, commit: str) -> tuple[ModelFile, ...]:
        """What of a commit is in the cache; a blob's name is its hash."""
        folder = self.snapshot(commit)
        return tuple(
            _cached_file(entry, entry.relative_to(folder).as_posix())
            for entry in sorted(folder.rglob("*"))
            if entry.is_file()
        )

    @contextmanager
    def lock(self, etag: str, cancel: CancelToken) -> Iterator[None]:
        """The cache's own lock of one blob, which every huggingface_hub process takes before it downloads it."""
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


@contextmanager
def _replaced(target: Path) -> Iterator[Path]:
    """A temporary name beside ``target`` that takes its place when the block ends well."""
    temporary = Path(tempfile.mktemp(prefix=f".{target.name}.", dir=target.parent))  # noqa: S306 - links cannot open
    try:
        yield temporary
        os.replace(temporary, target)  # noqa: PTH105 - Path.replace would resolve nothing more
    finally:
        temporary.unlink(missing_ok=True)
