"""The hash of a file that is still arriving: it follows the bytes that are here without a gap."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from gpux.model.info import ModelFile
from gpux.system.cancel import CancelToken

CHUNK = 512 << 10
KEPT = 4 << 20  #: bytes that wait in memory for the hash, at most; the others are read back
POLL = 0.1  # seconds between looks at the cancel token

ReadInto = Callable[[int, memoryview], int]  #: offset and buffer -> how many bytes of the file it holds now


def new_hash(file: ModelFile) -> hashlib._Hash:
    """The hash that names the file's blob: sha256 for LFS files, else git's sha1 of a header and the content."""
    if file.sha256:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % (file.size or 0), usedforsecurity=False)


def hash_file(path: Path, file: ModelFile, cancel: CancelToken | None = None) -> str:
    """The hash of a file on disk, to be compared with ``file.etag``.

    Raises:
        CancelledError: ``cancel`` was set.
    """
    found = new_hash(file)
    with path.open("rb", buffering=0) as source:
        while chunk := source.read(CHUNK):
            if cancel is not None:
                cancel.check()
            found.update(chunk)
    return found.hexdigest()


class Frontier:
    """The hash up to ``position``, fed in one thread while others write.

    What arrives at the frontier is hashed from memory. What arrived ahead of it, in an earlier process, or faster
    than the hash can follow is read back, once, when the frontier has reached it.
    """

    def __init__(self, file: ModelFile, read_into: ReadInto, reached: int = 0) -> None:
        """``read_into`` gives the file's bytes, of which ``reached`` are here already."""
        self.position = 0
        self._hash = new_hash(file)
        self._read_into = read_into
        self._buffer = memoryview(b"")  # made when it is needed first
        self._reached = reached
        self._kept: deque[bytes] = deque()
        self._kept_from = self._kept_to = 0  # what is in memory: bytes [from, to)
        self._changed = threading.Condition()

    def arrived(self, offset: int, chunks: Sequence[bytes], reached: int) -> None:
        """The chunks were written from ``offset`` on, and bytes up to ``reached`` are here without a gap."""
        with self._changed:
            if not self._kept:
                self._kept_from = self._kept_to = offset
            if offset == self._kept_to < reached and self._kept_to - self._kept_from < KEPT:
                self._kept.extend(chunks)
                self._kept_to += sum(map(len, chunks))
            self._reached = reached
            self._changed.notify()

    def follow(self, stop: int, cancel: CancelToken) -> None:
        """Hash until ``stop``, waiting for what is not here yet: for a thread of its own.

        Raises:
            CancelledError: ``cancel`` was set.
            OSError: the disk cannot be read.
        """
        while self.position < stop:
            cancel.check()
            with self._changed:
                if self._reached <= self.position:
                    self._changed.wait(POLL)
                    continue
            self._step()

    def catch_up(self, cancel: CancelToken) -> None:
        """Hash what is here without a gap, and return.

        Raises:
            CancelledError: ``cancel`` was set.
            OSError: the disk cannot be read.
        """
        self.follow(self._reached, cancel)

    def hexdigest(self) -> str:
        """The hash of the bytes up to ``position``."""
        return self._hash.hexdigest()

    def _step(self) -> None:
        """Hash one chunk, from memory where it still is there."""
        with self._changed:
            chunk, stop = self._take()
        found = memoryview(chunk) if chunk else self._read_back(stop)
        self._hash.update(found)  # sets other threads free meanwhile
        self.position += len(found)

    def _take(self) -> tuple[bytes, int]:
        """The chunk in memory that is next, or nothing and up to where to read instead."""
        if not self._kept or self._kept_from > self.position:
            return b"", self._kept_from if self._kept else self._reached
        chunk = self._kept.popleft()
        self._kept_from += len(chunk)
        return chunk, self._kept_from

    def _read_back(self, stop: int) -> memoryview:
        if not self._buffer:
            self._buffer = memoryview(bytearray(CHUNK))
        count = self._read_into(self.position, self._buffer[: stop - self.position])
        if not count:
            raise OSError(f"the file ends at byte {self.position}, before {stop}")
        return self._buffer[:count]
