"""The memory of a group of processes: measured while it runs, and the group killed when it takes too much.

Only what cannot be given back counts against a limit: memory of its own and shared memory, in RAM or swapped out.
Pages of mapped files, which is how weights are read, are the system's to drop. Sources: ``proc_pid_status(5)``,
``proc_pid_stat(5)``; elsewhere ``ps``, which tells the sum alone.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gpux.system.disk import format_bytes

#: Seconds between two looks.
INTERVAL = 0.25
#: What is left to the machine: this share of it, at most so many bytes.
_FLOOR_SHARE, _FLOOR_MOST = 0.03, 256_000_000
_PROC = Path("/proc")
_OWN = ("RssAnon", "RssShmem", "VmSwap")


@dataclass(frozen=True)
class Usage:
    """Bytes of a group of processes."""

    own: int  #: what cannot be given back
    resident: int  #: all that is in RAM, mapped files included


@dataclass(frozen=True)
class Excess:
    """Why a group was killed."""

    peak: int  #: bytes of its own
    limit: int | None  #: bytes that it was allowed; None: the machine ran out first
    available: int | None  #: bytes that were left to the machine

    def __str__(self) -> str:
        if self.limit is not None:
            return f"took {format_bytes(self.peak)} of memory, and the limit was {format_bytes(self.limit)}"
        left = format_bytes(self.available or 0)
        return f"took {format_bytes(self.peak)} of memory, and only {left} were left to the machine"


def floor(total: int | None) -> int:
    """Bytes that stay free of the machine's, or the control group's, ``total``."""
    return _FLOOR_MOST if total is None else min(_FLOOR_MOST, round(_FLOOR_SHARE * total))


def default_limit(available: int | None, total: int | None) -> int | None:
    """What a worker may take when nobody said: what is available now, less the floor; None where nothing tells."""
    return None if available is None else max(0, available - floor(total))


def group_usage(group: int, proc: Path = _PROC) -> Usage | None:
    """Memory of all processes of a session or process group; None where the system does not tell."""
    if proc.is_dir():
        found = [usage for folder in _members(group, proc) if (usage := _usage(folder)) is not None]
        return Usage(sum(usage.own for usage in found), sum(usage.resident for usage in found))
    return None if sys.platform == "win32" else _usage_by_ps(group)


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


def _usage_by_ps(group: int) -> Usage | None:
    program = shutil.which("ps")
    if program is None:
        return None
    done = subprocess.run([program, "-axo", "pgid=,rss="], capture_output=True, text=True, check=False)
    pairs = (line.split() for line in done.stdout.splitlines())
    resident = sum(int(pair[1]) * 1024 for pair in pairs if len(pair) == 2 and pair[0] == str(group))
    return Usage(resident, resident) if done.returncode == 0 else None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:  # it ended a moment ago
        return ""


class MemoryWatch:
    """Looks at a group in a thread, and calls ``kill`` once when it takes too much.

    Args:
        group: id of the process group.
        kill: ends the group at once.
        limit: bytes of its own that the group may take; None for no limit.
        available: bytes that are left to the machine, or None; below the floor the group is killed as well, if it
            holds more than that itself.
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
        self.peak_rss: int | None = None  #: most bytes in RAM at one look, mapped files included
        self._group, self._kill = group, kill
        self._limit, self._available, self._floor = limit, available, floor
        self._done = threading.Event()

    @contextmanager
    def running(self) -> Iterator[MemoryWatch]:
        """Watch for the length of a block."""
        thread = threading.Thread(target=self._run, name="worker-memory", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._done.set()
            thread.join()

    def _run(self) -> None:
        while self.excess is None:
            self.look()
            if self._done.wait(INTERVAL):
                return

    def look(self) -> None:
        """Measure once, and act on it."""
        usage = group_usage(self._group)
        if usage is None:
            return
        self.peak_rss = max(self.peak_rss or 0, usage.resident)
        self.excess = self._judge(usage.own)
        if self.excess is not None:
            self._kill()

    def _judge(self, own: int) -> Excess | None:
        if self._limit is not None and own > self._limit:
            return Excess(own, self._limit, None)
        available = self._available()
        if available is not None and available < self._floor < own:
            return Excess(own, None, available)
        return None
