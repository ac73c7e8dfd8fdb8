"""Reads and writes at a position of one file, from several threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


class PositionedFile:
    """A file, made where it is not there, whose reads and writes say where; safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, _OPEN, 0o666)
        self._lock = threading.Lock()

    def write(self, offset: int, chunks: Sequence[bytes]) -> None:
        """Write all chunks, one after the other from ``offset`` on.

        Raises:
            OSError: the disk refuses; a part may be written.
        """
        left = sum(map(len, chunks))
        while left:
            written = self._write_some(offset, chunks)
            offset, left = offset + written, left - written
            if left:
                chunks = [b"".join(chunks)[written:]]

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill the buffer from ``offset`` on; returns how many bytes there were."""
        if hasattr(os, "preadv"):
            return os.preadv(self._handle, [buffer], offset)
        with self._lock:
            os.lseek(self._handle, offset, os.SEEK_SET)
            found = os.read(self._handle, len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def truncate(self, size: int) -> None:
        """Cut the file to ``size`` bytes."""
        os.ftruncate(self._handle, size)

    @property
    def size(self) -> int:
        """Bytes up to the last one that was written."""
        return os.fstat(self._handle).st_size

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)

    def _write_some(self, offset: int, chunks: Sequence[bytes]) -> int:
        if hasattr(os, "pwritev"):
            return os.pwritev(self._handle, chunks, offset)
        with self._lock:  # Windows has no such call
            os.lseek(self._handle, offset, os.SEEK_SET)
            return os.write(self._handle, b"".join(chunks))
