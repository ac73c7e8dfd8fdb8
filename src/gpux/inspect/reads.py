"""Parts of a model's files, read where they lie: a header of a few kilobytes does not cost the file behind it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from gpux.errors import GpuxError, UsageError

PARALLEL = 16  #: reads at once, at most
Part = tuple[str, int, int]  #: path, first byte, and the one after the last


class FileReads(ABC):
    """An open view of one model's files at one commit; safe to use from several threads. Close it after use."""

    @abstractmethod
    def size(self, path: str) -> int:
        """Bytes of a file.

        Raises:
            EntryNotFoundError: the model has no such file.
            ManagerError: the source refuses, or does not tell.
        """

    @abstractmethod
    def _read(self, path: str, start: int, stop: int) -> bytes:
        """The bytes of a range that lies within the file."""

    def read(self, path: str, start: int, stop: int) -> bytes:
        """The bytes ``[start, stop)`` of a file; fewer where it ends before.

        Raises:
            UsageError: no range begins below zero or ends before it begins.
            EntryNotFoundError: the model has no such file.
            ManagerError: the source refuses; the subclass says why.
        """
        if not 0 <= start <= stop:
            raise UsageError(f"no range of bytes: {start} to {stop}")
        stop = min(stop, self.size(path))
        return self._read(path, start, stop) if start < stop else b""

    def read_each(self, parts: Sequence[Part]) -> list[bytes | GpuxError]:
        """Several parts at once, :data:`PARALLEL` at most; in the place of one that fails stands its error."""
        if len(parts) < 2:
            return [self._attempt(part) for part in parts]
        with ThreadPoolExecutor(min(PARALLEL, len(parts)), thread_name_prefix="gpux-read") as pool:
            return list(pool.map(self._attempt, parts))

    def close(self) -> None:  # noqa: B027 - most have nothing to let go of
        """Let go of connections."""

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
    """The bytes ``[start, stop)`` of a file on this machine.

    Raises:
        OSError: it cannot be read.
    """
    with file.open("rb") as source:
        source.seek(start)
        return source.read(stop - start)
