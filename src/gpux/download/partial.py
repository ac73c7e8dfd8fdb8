"""The growing file of one blob: what of it is here, told to the next process, hashed as it comes."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from gpux.download.frontier import Frontier
from gpux.download.journal import Journal, read_journal, remove_journal
from gpux.download.positioned import PositionedFile
from gpux.download.ranges import Range, Ranges
from gpux.model.info import ModelFile
from gpux.system.cancel import CancelToken


class Partial:
    """An open partial file, which goes on from what an earlier process left; safe to use from several threads."""

    def __init__(self, path: Path, journal: Path, file: ModelFile, *, sparse: bool) -> None:
        """Open ``path``, made where it is not there.

        With ``sparse``, bytes may be written in any order, and ``journal`` tells which are there. Without, or where
        there is no journal of an earlier process, the file is a prefix as long as it is.

        Raises:
            OSError: the disk refuses.
        """
        self.size = file.size or 0
        self.last_arrival = time.monotonic()  #: when the last new bytes came
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as opened:
            self._here = _found(path, journal, file.etag or "", self.size)
            self._journal: Journal | None = None
            if sparse or journal.exists():  # stands before the first byte that needs it
                self._journal = opened.enter_context(Journal(journal, file.etag or "", self.size, self._here))
            self._file = PositionedFile(path)
            opened.callback(self._file.close)
            if self._file.size > self.size or (self._journal is None and self._file.size > self._here.frontier):
                self._file.truncate(self._here.frontier)
            self._hash = Frontier(file, self._file.read_into, self._here.frontier)
            self._opened = opened.pop_all()

    @property
    def arrived(self) -> int:
        """How many bytes are here."""
        return self._here.total

    def gaps(self, start: int = 0, stop: int | None = None) -> list[Range]:
        """What is not here yet."""
        with self._lock:
            return self._here.gaps(start, self.size if stop is None else stop)

    def write(self, offset: int, chunks: Sequence[bytes]) -> None:
        """Write what of the chunks is not here yet: bytes that the hash has seen must not change.

        Raises:
            OSError: the disk refuses.
        """
        end = offset + sum(map(len, chunks))
        for start, stop in self.gaps(offset, end):
            part = chunks if stop - start == end - offset else [b"".join(chunks)[start - offset : stop - offset]]
            self._file.write(start, part)
            with self._lock:
                run = self._here.add(start, stop)
                if self._journal is not None:
                    self._journal.record(run)
                self._hash.arrived(start, part, self._here.frontier)
                self.last_arrival = time.monotonic()

    def follow(self, cancel: CancelToken) -> None:
        """Hash what arrives until the file is whole: for a thread of its own.

        Raises:
            CancelledError: ``cancel`` was set.
            OSError: the disk cannot be read.
        """
        self._hash.follow(self.size, cancel)

    def catch_up(self, cancel: CancelToken) -> None:
        """Hash what is here without a gap.

        Raises:
            CancelledError: ``cancel`` was set.
            OSError: the disk cannot be read.
        """
        self._hash.catch_up(cancel)

    def hexdigest(self) -> str:
        """The hash of what was hashed so far."""
        return self._hash.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()


def discard(path: Path, journal: Path) -> None:
    """Forget a partial file. The journal goes last: without one, a holed file would count as a prefix.

    Raises:
        OSError: the disk refuses.
    """
    path.unlink(missing_ok=True)
    remove_journal(journal)


def finish(path: Path, journal: Path, blob: Path) -> None:
    """Give a whole file its name. The journal goes first: killed between the two, the file still is its own prefix.

    Raises:
        OSError: the disk refuses.
    """
    remove_journal(journal)
    path.replace(blob)


def _found(path: Path, journal: Path, etag: str, size: int) -> Ranges:
    """What an earlier process left and is to be believed, until the hash knows better."""
    try:
        length = path.stat().st_size
    except FileNotFoundError:
        return Ranges()
    if length > size:
        return Ranges()  # no prefix of this file
    told = read_journal(journal, etag, size)
    if told is None:
        return Ranges([(0, length)] if length else [])
    return Ranges((start, min(stop, length)) for start, stop in told if start < length)
