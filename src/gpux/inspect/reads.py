"""Ranged reads of a model's files: reading a header of a few kilobytes does not download the file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from gpux.errors import GpuxError, UsageError

PARALLEL = 16  #: maximum concurrent reads
Part = tuple[str, int, int]  #: path, first byte, byte after the last


class FileReads(ABC):
    """Access to the files of a model at one commit. Thread-safe; close it after use."""

    @abstractmethod
    def size(self, path: str) -> int:
        """Bytes of a file.

        Raises:
            EntryNotFoundError: the model has no such file.
            ManagerError: the source refuses, or does not report the size.
        """

    @abstractmethod
    def _read(self, path: str, start: int, stop: int) -> bytes:
        """The bytes of a range inside the file."""

    def read(self, path: str, start: int, stop: int) -> bytes:
        """The bytes ``[start, stop)`` of a file; fewer if the file ends before ``stop``.

        Raises:
            UsageError: ``start`` is negative, or greater than ``stop``.
            EntryNotFoundError: the model has no such file.
            ManagerError: the source refuses; the subclass states why.
        """
        if not 0 <= start <= stop:
            raise UsageError(f"invalid byte range: {start} to {stop}")
        stop = min(stop, self.size(path))
        return self._read(path, start, stop) if start < stop else b""

    def read_each(self, parts: Sequence[Part]) -> list[bytes | GpuxError]:
        """Read several parts, at most :data:`PARALLEL` at once; a failed read returns its error."""
        if len(parts) < 2:
            return [self._attempt(part) for part in parts]
        with ThreadPoolExecutor(min(PARALLEL, len(parts)), thread_name_prefix="gpux-read") as pool:
            return list(pool.map(self._attempt, parts))

    def close(self) -> None:  # noqa: B027 - most subclasses have nothing to close
        """Close connections."""

    def _attempt(self, part: Part) -> bytes | GpuxError:
        try:
            return self.read(*part)
        except GpuxError as exc:
            return exc

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_part(file: Path, start: int, stop: int) -> bytes:
    """The bytes ``[start, stop)`` of a local file.

    Raises:
        OSError: the file cannot be read.
    """
    with file.open("rb") as source:
        source.seek(start)
        return source.read(stop - start)
