"""What this process may use of the machine: cores and memory, as affinity masks and Linux control groups limit them.

A container sees every core of its host; only its control group tells that it may use two of them. Sources: the
kernel's "Control Group v2" document (``cpu.max``, ``memory.max``, ``memory.current``, ``memory.stat``), its v1
predecessors (``cpu.cfs_quota_us``, ``memory.limit_in_bytes``, ``memory.usage_in_bytes``), and ``proc_meminfo(5)``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")
_UNLIMITED = 1 << 60  #: control group v1 says "no limit" with a number near 2**63


def cpu_threads(root: Path = _ROOT) -> int:
    """Threads that computing pays on: physical cores of the affinity mask, at most the control group's quota."""
    cores = _physical_cores(root, usable_cpus())
    quota = cpu_quota(root)
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def usable_cpus() -> frozenset[int]:
    """Logical processors that the scheduler may give this process; all of them where the system does not tell."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _physical_cores(root: Path, cpus: frozenset[int]) -> int:
    """Cores behind these processors: two threads of one core share its arithmetic units."""
    cores = set()
    for cpu in cpus:
        siblings = _read(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(siblings or str(cpu))
    return len(cores)


def cpu_quota(root: Path = _ROOT) -> float | None:
    """Processors' worth of time that the control group allows; None without a limit."""
    quotas = [quota for folder in _groups(root, "cpu") if (quota := _quota(folder)) is not None]
    return min(quotas, default=None)


def _quota(folder: Path) -> float | None:
    text = _read(folder / "cpu.max") or f"{_read(folder / 'cpu.cfs_quota_us')} {_read(folder / 'cpu.cfs_period_us')}"
    quota, _, period = text.partition(" ")
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return None  # "max", v1's -1, or no such file
    return int(quota) / int(period)


def memory_limit(root: Path = _ROOT) -> int | None:
    """Bytes that this process may use: the control group's limit, else the machine's memory; None if unknown."""
    limits = [limit for folder in _groups(root, "memory") if (limit := _memory(folder)) is not None]
    if (total := _total_memory(root)) is not None:
        limits.append(total)
    return min(limits, default=None)


def _memory(folder: Path) -> int | None:
    text = _read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes")
    return int(text) if text.isdigit() and int(text) < _UNLIMITED else None


def available_memory(root: Path = _ROOT) -> int | None:
    """Bytes that could be taken now without anyone swapping or being killed; None where the system does not tell.

    The least of what the machine calls available and what each control group above this process still allows; the
    copies of files that a group holds are given up when memory is wanted, and count as free.
    """
    rooms = [room for folder in _groups(root, "memory") if (room := _room(folder)) is not None]
    if (available := _meminfo(root, "MemAvailable")) is not None:
        rooms.append(available)
    return min(rooms, default=None)


def _room(folder: Path) -> int | None:
    limit, used = _memory(folder), _read(folder / "memory.current") or _read(folder / "memory.usage_in_bytes")
    if limit is None or not used.isdigit():
        return None
    return max(0, limit - max(0, int(used) - _reclaimable(folder)))


def _reclaimable(folder: Path) -> int:
    found = dict(line.split(maxsplit=1) for line in _read(folder / "memory.stat").splitlines() if " " in line)
    names = ("inactive_file", "active_file")
    totals = [found.get(f"total_{name}", found.get(name, "0")) for name in names]  # v1 counts children in total_ alone
    return sum(int(text) for text in totals if text.isdigit())


def _total_memory(root: Path) -> int | None:
    return _meminfo(root, "MemTotal")


def _meminfo(root: Path, name: str) -> int | None:
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's control group and its parents: a limit anywhere above holds as well."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / (controllers if controllers else "")
        group = mount / path.lstrip("/")
        yield group
        while group != mount and mount in group.parents:
            group = group.parent
            yield group


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
