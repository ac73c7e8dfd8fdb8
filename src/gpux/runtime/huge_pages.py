"""Moves a graph's weights into huge pages, so that a run spends less time on address translation.

Each generated token reads every weight once, and on Linux part of that time is spent on looking up pages of 4 KB. Where
huge pages are given on request only (``madvise`` in ``transparent_hugepage/enabled``), numpy requests them for its
arrays, but onnxruntime does not. Memory that was mapped while onnxruntime loaded a graph can be moved afterwards with
madvise(2) and ``MADV_COLLAPSE``, from Linux 6.1 on. Source: the kernel's "Transparent Hugepage Support".
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

_FOLDER = "sys/kernel/mm/transparent_hugepage"
_COLLAPSE = 25  # MADV_COLLAPSE
#: Runs before the weights are moved: copying them takes as long as a few hundred runs save.
WORTH = 200
_SLICE = 32 << 20  #: bytes of one madvise call, between which the work can be stopped
log = logging.getLogger(__name__)

Range = tuple[int, int]  #: first address, and the address after the last


class HugePages:
    """Moves memory that was mapped within :meth:`watching` into huge pages, after :data:`WORTH` runs have read it.

    Args:
        root: root of the file system that contains ``/proc`` and ``/sys``.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._size = page_size(root)
        self._ranges: list[Range] = []
        self._runs = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Record the memory that the process maps within the ``with`` block, in any thread."""
        before = mapped(self._root) if self._size else []
        yield
        if self._size:
            self._ranges = list(aligned(added(before, mapped(self._root)), self._size))

    def count(self, runs: int = 1) -> threading.Thread | None:
        """Add a number of runs; when they reach :data:`WORTH`, start the thread that moves the memory, and return it.

        The memory is moved once. A daemon thread does it while the caller continues.
        """
        if not self._ranges:
            return None
        with self._lock:
            self._runs += runs
            if self._runs < WORTH or not self._ranges:
                return None
            ranges, self._ranges = self._ranges, []
        thread = threading.Thread(target=self._collapse, args=(ranges,), name="gpux-huge-pages", daemon=True)
        try:
            thread.start()
        except RuntimeError as exc:  # the limit on processes, or the interpreter is shutting down
            log.info("weights stay in small pages: %s", exc)
            return None
        return thread

    def stop(self) -> None:
        """Stop moving memory, before it is freed."""
        self._stopped.set()
        self._ranges = []

    def _collapse(self, ranges: Iterable[Range]) -> None:
        for start, end in ranges:
            for piece in range(start, end, _SLICE):
                if self._stopped.is_set():
                    return
                size = min(_SLICE, end - piece)
                if error := collapse(piece, size):
                    log.debug("no huge pages for %d bytes: %s", size, os.strerror(error))


def page_size(root: Path = Path("/")) -> int:
    """Bytes of a huge page; 0 where the system has none, or does not give them on request: always or never."""
    try:
        enabled = (root / _FOLDER / "enabled").read_text(encoding="ascii")
        size = int((root / _FOLDER / "hpage_pmd_size").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
    return size if "[madvise]" in enabled else 0


def mapped(root: Path = Path("/")) -> list[Range]:
    """Private memory of this process that no file backs, in ascending order (proc_pid_maps(5))."""
    found = []
    for line in (root / "proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        place, rights, _, _, inode, *name = line.split(maxsplit=5)
        if rights == "rw-p" and inode == "0" and name in ([], ["[heap]"]):
            start, _, end = place.partition("-")
            found.append((int(start, 16), int(end, 16)))
    return found


def added(before: Iterable[Range], after: Iterable[Range]) -> Iterator[Range]:
    """The parts of ``after`` that are not in ``before``; both ascending and without overlaps."""
    old = list(before)
    for start, end in after:
        for first, last in old:
            if last <= start or first >= end:
                continue
            if first > start:
                yield start, first
            start = max(start, last)
        if start < end:
            yield start, end


def aligned(ranges: Iterable[Range], size: int) -> Iterator[Range]:
    """The whole pages in each range."""
    for start, end in ranges:
        first, last = -(-start // size) * size, end // size * size
        if first < last:
            yield first, last


def collapse(start: int, size: int) -> int:
    """Move the used pages of a range into huge pages; returns 0, or the ``errno`` of the first page that failed."""
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return ctypes.get_errno() if madvise(start, size, _COLLAPSE) else 0
