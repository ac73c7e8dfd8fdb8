"""The memory of a group of processes, and a watch that kills the group when it uses too much.

Only memory that cannot be reclaimed counts against a limit: anonymous and shared memory, in RAM or swapped out. The
system can drop pages of mapped files, such as weights, at any time. Linux reports the two separately
(``proc_pid_status(5)``, which psutil does not pass on); on other systems the whole resident size counts.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from gpux.model.units import format_bytes

#: Seconds between two measurements.
INTERVAL = 0.25
#: Memory that is kept free: this share of all memory, and at most this many bytes.
_FLOOR_SHARE, _FLOOR_LARGEST = 0.03, 256_000_000
_PROC = Path("/proc")
_OWN = ("RssAnon", "RssShmem", "VmSwap")


@dataclass(frozen=True)
class Usage:
    """Bytes of a group of processes."""

    own: int  #: memory that cannot be reclaimed, in RAM or swapped out
    resident: int  #: memory in RAM, mapped files included


@dataclass(frozen=True)
class Excess:
    """Why a group was killed."""

    peak: int  #: bytes of unreclaimable memory that the group used
    limit: int | None  #: bytes that the group was allowed; None: the machine's memory ran out first
    available: int | None  #: bytes that were available on the machine; None if the limit was exceeded

    def __str__(self) -> str:
        if self.limit is not None:
            return f"used {format_bytes(self.peak)} of memory, and the limit was {format_bytes(self.limit)}"
        left = format_bytes(self.available or 0)
        return f"used {format_bytes(self.peak)} of memory, and only {left} were still available"


def floor(total: int | None) -> int:
    """Bytes that are kept free of the ``total`` of the machine or its control group."""
    return _FLOOR_LARGEST if total is None else min(_FLOOR_LARGEST, round(_FLOOR_SHARE * total))


def default_limit(available: int | None, total: int | None) -> int | None:
    """Bytes that a worker may use by default: the available memory less the floor; None if that is not known."""
    return None if available is None else max(0, available - floor(total))


def group_usage(group: int, proc: Path = _PROC) -> Usage | None:
    """Memory of all processes of a session or process group; None if there is no such process.

    Args:
        group: id of the group, which is the id of the process that leads it.
        proc: where Linux has its process files.
    """
    usages = map(_usage, _members(group, proc)) if proc.is_dir() else map(_resident, group_processes(group))
    found = [usage for usage in usages if usage is not None]
    return Usage(sum(usage.own for usage in found), sum(usage.resident for usage in found)) if found else None


def group_processes(group: int) -> list[psutil.Process]:
    """The processes of a session or process group; on Windows the leader and its descendants."""
    if sys.platform == "win32":
        try:
            leader = psutil.Process(group)
            return [leader, *leader.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []
    return [process for process in psutil.process_iter() if _is_member(process.pid, group)]


def _is_member(pid: int, group: int) -> bool:
    try:
        return group in (os.getpgid(pid), os.getsid(pid))
    except (ProcessLookupError, PermissionError):  # the process ended, or belongs to another user
        return False


def _resident(process: psutil.Process) -> Usage | None:
    try:
        resident: int = process.memory_info().rss
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # ZombieProcess is a NoSuchProcess
        return None
    return Usage(resident, resident)


def _members(group: int, proc: Path) -> Iterator[Path]:
    for folder in proc.iterdir():
        if folder.name.isdigit():
            fields = _text(folder / "stat").rpartition(")")[2].split()
            if len(fields) > 3 and str(group) in fields[2:4]:  # process group and session
                yield folder


def _usage(folder: Path) -> Usage | None:
    sizes = {}
    for line in _text(folder / "status").splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            sizes[name] = int(value.split()[0]) * 1024
    if "VmRSS" not in sizes:  # a zombie
        return None
    own = [sizes[name] for name in _OWN if name in sizes]
    return Usage(sum(own) if "RssAnon" in sizes else sizes["VmRSS"], sizes["VmRSS"])


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:  # the process ended meanwhile
        return ""


class MemoryWatch:
    """Measures a group in a thread, and calls ``kill`` once when the group uses too much memory.

    Args:
        group: id of the process group.
        kill: kills the group.
        limit: bytes of unreclaimable memory that the group may use; None for no limit.
        available: returns the bytes that are available on the machine, or None if that is not known. When less than
            ``floor`` is available, the group is killed if it uses more than ``floor``.
        floor: bytes that must stay available.
    """

    def __init__(
        self,
        group: int,
        kill: Callable[[], None],
        *,
        limit: int | None,
        available: Callable[[], int | None],
        floor: int,
    ) -> None:
        self.excess: Excess | None = None
        self.peak_rss: int | None = None  #: largest measured number of bytes in RAM, mapped files included
        self._group, self._kill = group, kill
        self._limit, self._available, self._floor = limit, available, floor
        self._done = threading.Event()

    @contextmanager
    def running(self) -> Iterator[MemoryWatch]:
        """Watch while the ``with`` block runs."""
        thread = threading.Thread(target=self._run, name="worker-memory", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._done.set()
            thread.join()

    def _run(self) -> None:
        while self.excess is None:
            self.measure()
            if self._done.wait(INTERVAL):
                return

    def measure(self) -> None:
        """Measure once, and kill the group if it uses too much."""
        usage = group_usage(self._group)
        if usage is None:
            return
        self.peak_rss = max(self.peak_rss or 0, usage.resident)
        self.excess = self._excess(usage.own)
        if self.excess is not None:
            self._kill()

    def _excess(self, own: int) -> Excess | None:
        if self._limit is not None and own > self._limit:
            return Excess(own, self._limit, None)
        available = self._available()
        if available is not None and available < self._floor < own:
            return Excess(own, None, available)
        return None
