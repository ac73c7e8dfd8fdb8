"""The cores and memory that this process may use, within its affinity mask and its Linux control groups.

A container sees all cores of its host; only its control group has the limit. On other systems psutil is used.
Sources: the kernel's "Control Group v2" document (``cpu.max``, ``memory.max``, ``memory.current``, ``memory.stat``),
the v1 files (``cpu.cfs_quota_us``, ``memory.limit_in_bytes``, ``memory.usage_in_bytes``), and ``proc_meminfo(5)``.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

_ROOT = Path("/")
_UNLIMITED = 1 << 60  #: control group v1 has a number near 2**63 where there is no limit


def cpu_threads(root: Path = _ROOT) -> int:
    """Threads to compute with: the physical cores of the affinity mask, at most the quota of the control group."""
    cores = _physical_cores(root, usable_cpus())
    quota = cpu_quota(root)
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def usable_cpus() -> frozenset[int]:
    """Logical processors that this process may run on; all of them where the system has no affinity masks."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def core_groups(root: Path = _ROOT) -> list[list[int]]:
    """The logical processors of each physical core that this process may use, in the order of their numbers."""
    groups: dict[str, list[int]] = {}
    for cpu in sorted(usable_cpus()):
        groups.setdefault(_siblings(root, cpu), []).append(cpu)
    return list(groups.values())


def _physical_cores(root: Path, cpus: frozenset[int]) -> int:
    """Number of cores of these logical processors: the threads of one core share its arithmetic units."""
    return len({_siblings(root, cpu) for cpu in cpus})


def _siblings(root: Path, cpu: int) -> str:
    return _read(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu)


def cpu_quota(root: Path = _ROOT) -> float | None:
    """Processors that the control group allows, as a fraction of time; None without a limit."""
    quotas = [quota for folder in _groups(root, "cpu") if (quota := _quota(folder)) is not None]
    return min(quotas, default=None)


def _quota(folder: Path) -> float | None:
    text = _read(folder / "cpu.max") or f"{_read(folder / 'cpu.cfs_quota_us')} {_read(folder / 'cpu.cfs_period_us')}"
    quota, _, period = text.partition(" ")
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return None  # "max", v1's -1, or no such file
    return int(quota) / int(period)


def memory_limit(root: Path = _ROOT) -> int | None:
    """Bytes that this process may use: the limit of the control group, or the machine's memory; None if unknown."""
    limits = [limit for folder in _groups(root, "memory") if (limit := _memory(folder)) is not None]
    if (total := _system_memory(root, "MemTotal")) is not None:
        limits.append(total)
    return min(limits, default=None)


def _memory(folder: Path) -> int | None:
    text = _read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes")
    return int(text) if text.isdigit() and int(text) < _UNLIMITED else None


def available_memory(root: Path = _ROOT) -> int | None:
    """Bytes that can be allocated now without swapping; None where the system does not state them.

    The smallest of the machine's available memory and the free memory of each control group above this process. The
    page cache of a group is reclaimed when memory is needed, and counts as free.
    """
    rooms = [room for folder in _groups(root, "memory") if (room := _room(folder)) is not None]
    if (available := _system_memory(root, "MemAvailable")) is not None:
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


def _system_memory(root: Path, name: Literal["MemTotal", "MemAvailable"]) -> int | None:
    found = _meminfo(root, name)
    if found is None and root == _ROOT and sys.platform != "linux":
        import psutil  # slow to import, and not installed in toolchains

        memory = psutil.virtual_memory()
        return int(memory.total if name == "MemTotal" else memory.available)
    return found


def _meminfo(root: Path, name: str) -> int | None:
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the control group of this process and of its parents, whose limits apply too."""
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
