"""The partial file of one blob: written in any order, hashed while it arrives, resumed by the next process.

Beside the file lies its journal, which lists the ranges that were written. The journal's header names the blob; each
further line is one range. Lines have one width and are rewritten in place while their range grows: one write call for
each arrived chunk, nothing lost when the process is killed, and a few kilobytes whatever the size of the blob. Neither
file is flushed to the disk, so after a power cut the journal may list bytes that were never stored; the hash detects
that.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from gpux.download.ranges import Range, Ranges
from gpux.model.info import ModelFile
from gpux.system.cancel import CancelToken
from gpux.system.files import write_atomic
from gpux.system.hashing import Algorithm, new_hash

CHUNK = 512 << 10  #: bytes that are read back and hashed in one step
KEPT = 4 << 20  #: bytes that wait in memory to be hashed, at most; the others are read back from the disk
POLL = 0.1  # seconds between looks at the cancel token

_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_LINE = re.compile(rb"([0-9a-f]{16}) ([0-9a-f]{16})")
_WIDTH = 34

ReadInto = Callable[[int, memoryview], int]  #: offset and buffer -> number of bytes read


class PartialFile:
    """The open partial file of one blob; continues from what an earlier process wrote. Thread-safe."""

    def __init__(self, path: Path, journal: Path, file: ModelFile, *, sparse: bool) -> None:
        """Open ``path``; create it if it is missing.

        With ``sparse``, bytes may be written in any order and ``journal`` lists the ranges that arrived. Without it,
        or where no earlier process left a journal, every byte of the file counts as arrived.

        Raises:
            OSError: the file system refuses.
        """
        self.size = file.size or 0
        self.last_arrival = time.monotonic()  #: time of the last new byte, by :func:`time.monotonic`
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as opened:
            self._ranges = _arrived_before(path, journal, file.etag or "", self.size)
            self._journal: Journal | None = None
            if sparse or journal.exists():  # the journal must exist before the first out-of-order byte
                self._journal = opened.enter_context(Journal(journal, file.etag or "", self.size, self._ranges))
            self._file = PositionedFile(path)
            opened.callback(self._file.close)
            if self._file.size > self.size or (self._journal is None and self._file.size > self._ranges.prefix):
                self._file.truncate(self._ranges.prefix)
            self._hash = PrefixHash(file, self._file.read_into, self._ranges.prefix)
            self._opened = opened.pop_all()

    @property
    def arrived(self) -> int:
        """Number of bytes that have arrived."""
        return self._ranges.total

    def gaps(self, start: int = 0, stop: int | None = None) -> list[Range]:
        """The ranges that have not arrived."""
        with self._lock:
            return self._ranges.gaps(start, self.size if stop is None else stop)

    def write(self, offset: int, chunks: Sequence[bytes]) -> None:
        """Write the chunks one after the other from ``offset`` on, except bytes that have arrived already.

        Bytes that arrived are never overwritten: they may have been hashed.

        Raises:
            OSError: the file system refuses.
        """
        end = offset + sum(map(len, chunks))
        for start, stop in self.gaps(offset, end):
            part = chunks if stop - start == end - offset else [b"".join(chunks)[start - offset : stop - offset]]
            self._file.write(start, part)
            with self._lock:
                merged = self._ranges.add(start, stop)
                if self._journal is not None:
                    self._journal.record(merged)
                self._hash.arrived(start, part, self._ranges.prefix)
                self.last_arrival = time.monotonic()

    def follow(self, cancel: CancelToken) -> None:
        """Hash what arrives until the file is complete; runs in a thread of its own.

        Raises:
            CancelledError: ``cancel`` was set.
            OSError: the file cannot be read.
        """
        self._hash.follow(self.size, cancel)

    def catch_up(self, cancel: CancelToken) -> None:
        """Hash the bytes up to the first gap.

        Raises:
            CancelledError: ``cancel`` was set.
            OSError: the file cannot be read.
        """
        self._hash.catch_up(cancel)

    def hexdigest(self) -> str:
        """The hash of the bytes hashed so far, in hexadecimal digits."""
        return self._hash.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()


def discard(path: Path, journal: Path) -> None:
    """Delete a partial file. The journal is deleted last: a file with gaps and no journal would count as complete.

    Raises:
        OSError: the file system refuses.
    """
    path.unlink(missing_ok=True)
    remove_journal(journal)


def finish(path: Path, journal: Path, blob: Path) -> None:
    """Rename a complete file to ``blob``. The journal is deleted first: a complete file is valid without one.

    Raises:
        OSError: the file system refuses.
    """
    remove_journal(journal)
    path.replace(blob)


def hash_algorithm(file: ModelFile) -> Algorithm:
    """The hash that names the file's blob: sha256 for LFS files, git's blob sha1 for others."""
    return "sha256" if file.sha256 else "git-blob-sha1"


class Journal:
    """The open journal of one partial file."""

    def __init__(self, path: Path, etag: str, size: int, ranges: Ranges) -> None:
        """Write a journal that lists ``ranges`` in place of an older one."""
        self._header = header(etag, size)
        self._lines: dict[int, int] = {}  # start of a range -> its line
        for start, _ in ranges:
            self._lines[start] = len(self._lines)
        content = self._header + b"".join(_line(*found) for found in ranges)
        write_atomic(path, content, temporary=_temporary(path))
        self._file = PositionedFile(path)

    def record(self, found: Range) -> None:
        """Write a range; it replaces an earlier range with the same start.

        Raises:
            OSError: the file system refuses.
        """
        line = self._lines.setdefault(found[0], len(self._lines))
        self._file.write(len(self._header) + line * _WIDTH, [_line(*found)])

    def close(self) -> None:
        """Close the file; it stays on the disk for the next process."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def header(etag: str, size: int) -> bytes:
    """The first line of a journal, which names the blob."""
    return f"gpux-ranges 1 {etag} {size}\n".encode("ascii")


def read_journal(path: Path, etag: str, size: int) -> Ranges | None:
    """The ranges in a journal: none where it belongs to another blob, None where it does not exist.

    Lines that are torn or exceed the file's size are skipped.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    first, newline, rest = content.partition(b"\n")
    if first + newline != header(etag, size):
        return Ranges()
    found = Ranges()
    for line in rest.split(b"\n"):
        match = _LINE.fullmatch(line)
        start, stop = (int(number, 16) for number in match.groups()) if match else (0, 0)
        if start < stop <= size:
            found.add(start, stop)
    return found


def remove_journal(path: Path) -> None:
    """Delete a journal, and the temporary file of a process that was killed while it created one.

    Raises:
        OSError: the file system refuses.
    """
    path.unlink(missing_ok=True)
    _temporary(path).unlink(missing_ok=True)


class PrefixHash:
    """The hash of a file's first ``position`` bytes, updated in one thread while other threads write.

    Bytes that arrive at ``position`` are hashed from memory. Bytes that arrived out of order, in an earlier process,
    or faster than they can be hashed are read back from the disk once.
    """

    def __init__(self, file: ModelFile, read_into: ReadInto, prefix: int = 0) -> None:
        """``read_into`` reads the file, whose first ``prefix`` bytes have arrived already."""
        self.position = 0
        self._hash = new_hash(hash_algorithm(file), file.size or 0)
        self._read_into = read_into
        self._buffer = memoryview(b"")  # allocated at its first use
        self._prefix = prefix
        self._kept: deque[bytes] = deque()
        self._kept_from = self._kept_to = 0  # the bytes in memory: [from, to)
        self._changed = threading.Condition()

    def arrived(self, offset: int, chunks: Sequence[bytes], prefix: int) -> None:
        """The chunks were written from ``offset`` on; the first ``prefix`` bytes of the file have now arrived."""
        with self._changed:
            if not self._kept:
                self._kept_from = self._kept_to = offset
            if offset == self._kept_to < prefix and self._kept_to - self._kept_from < KEPT:
                self._kept.extend(chunks)
                self._kept_to += sum(map(len, chunks))
            self._prefix = prefix
            self._changed.notify()

    def follow(self, stop: int, cancel: CancelToken) -> None:
        """Hash up to byte ``stop``, and wait for bytes that have not arrived; runs in a thread of its own.

        Raises:
            CancelledError: ``cancel`` was set.
            OSError: the file cannot be read.
        """
        while self.position < stop:
            cancel.check()
            with self._changed:
                if self._prefix <= self.position:
                    self._changed.wait(POLL)
                    continue
            self._step()

    def catch_up(self, cancel: CancelToken) -> None:
        """Hash the bytes up to the first gap.

        Raises:
            CancelledError: ``cancel`` was set.
            OSError: the file cannot be read.
        """
        self.follow(self._prefix, cancel)

    def hexdigest(self) -> str:
        """The hash of the first ``position`` bytes, in hexadecimal digits."""
        return self._hash.hexdigest()

    def _step(self) -> None:
        """Hash one chunk, from memory if it still is there."""
        with self._changed:
            chunk, stop = self._take()
        found = memoryview(chunk) if chunk else self._read_back(stop)
        self._hash.update(found)  # releases the GIL
        self.position += len(found)

    def _take(self) -> tuple[bytes, int]:
        """The next chunk in memory and its end; or an empty chunk and where the read from the disk ends."""
        if not self._kept or self._kept_from > self.position:
            return b"", self._kept_from if self._kept else self._prefix
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


class PositionedFile:
    """A file, created if it is missing, that is read and written at explicit offsets. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, _OPEN, 0o666)
        self._lock = threading.Lock()

    def write(self, offset: int, chunks: Sequence[bytes]) -> None:
        """Write all chunks, one after the other from ``offset`` on.

        Raises:
            OSError: the file system refuses; some bytes may have been written.
        """
        left = sum(map(len, chunks))
        while left:
            written = self._write_some(offset, chunks)
            offset, left = offset + written, left - written
            if left:
                chunks = [b"".join(chunks)[written:]]

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill the buffer from ``offset`` on; returns the number of bytes read."""
        if hasattr(os, "preadv"):
            return os.preadv(self._handle, [buffer], offset)
        with self._lock:
            os.lseek(self._handle, offset, os.SEEK_SET)
            found = os.read(self._handle, len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def truncate(self, size: int) -> None:
        """Truncate the file to ``size`` bytes."""
        os.ftruncate(self._handle, size)

    @property
    def size(self) -> int:
        """Length of the file in bytes."""
        return os.fstat(self._handle).st_size

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)

    def _write_some(self, offset: int, chunks: Sequence[bytes]) -> int:
        if hasattr(os, "pwritev"):
            return os.pwritev(self._handle, chunks, offset)
        with self._lock:  # Windows has no pwritev
            os.lseek(self._handle, offset, os.SEEK_SET)
            return os.write(self._handle, b"".join(chunks))


def _arrived_before(path: Path, journal: Path, etag: str, size: int) -> Ranges:
    """The ranges that an earlier process wrote; they count as arrived until the hash shows otherwise."""
    try:
        length = path.stat().st_size
    except FileNotFoundError:
        return Ranges()
    if length > size:
        return Ranges()  # the content of another blob
    listed = read_journal(journal, etag, size)
    if listed is None:
        return Ranges([(0, length)] if length else [])
    return Ranges((start, min(stop, length)) for start, stop in listed if start < length)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _line(start: int, stop: int) -> bytes:
    return b"%016x %016x\n" % (start, stop)
