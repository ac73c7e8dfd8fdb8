"""Which ranges of a partial file are good, told to the next process: a small file beside it.

A header names the blob; each line after it is one range of bytes that were written. Lines have one width and are
rewritten in place while their range grows: one write call per arrived chunk, nothing lost when the process is
killed, and a file of a few kilobytes whatever the blob's size. Nothing is flushed to the disk, so after a power cut
the journal may promise bytes that never got there; the hash finds that out.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import TracebackType
from typing import Self

from gpux.download.positioned import PositionedFile
from gpux.download.ranges import Range, Ranges

_LINE = re.compile(rb"([0-9a-f]{16}) ([0-9a-f]{16})")
_WIDTH = 34


class Journal:
    """The open journal of one blob that is being fetched."""

    def __init__(self, path: Path, etag: str, size: int, ranges: Ranges) -> None:
        """Begin a journal that says ``ranges``, in the place of an older one."""
        self._header = header(etag, size)
        self._lines: dict[int, int] = {}  # where a range starts -> its line
        for start, _ in ranges:
            self._lines[start] = len(self._lines)
        temporary = _temporary(path)
        temporary.write_bytes(self._header + b"".join(_line(*found) for found in ranges))
        os.replace(temporary, path)  # noqa: PTH105 - one step: a reader sees the old journal or the new one
        self._file = PositionedFile(path)

    def record(self, found: Range) -> None:
        """Note that a range is good; one that starts where an earlier one did takes its place.

        Raises:
            OSError: the disk refuses.
        """
        line = self._lines.setdefault(found[0], len(self._lines))
        self._file.write(len(self._header) + line * _WIDTH, [_line(*found)])

    def close(self) -> None:
        """Close the file; it stays for the next process."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def header(etag: str, size: int) -> bytes:
    """The first line: what the ranges are ranges of."""
    return f"gpux-ranges 1 {etag} {size}\n".encode("ascii")


def read_journal(path: Path, etag: str, size: int) -> Ranges | None:
    """The ranges that a journal vouches for; None where there is no journal of this blob.

    A line that is torn, or reaches outside the file, says nothing; the others count.
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
    """Forget a journal, and one that a process was killed while it began.

    Raises:
        OSError: the disk refuses.
    """
    path.unlink(missing_ok=True)
    _temporary(path).unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _line(start: int, stop: int) -> bytes:
    return b"%016x %016x\n" % (start, stop)
