from __future__ import annotations

from pathlib import Path

import pytest

from gpux.runtime.machine import cpu_quota, cpu_threads, memory_limit, usable_cpus


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root


def v2(tmp_path: Path, **limits: str) -> Path:
    return write(
        tmp_path,
        {"proc/self/cgroup": "0::/pod/box\n", **{f"sys/fs/cgroup/{name}": text for name, text in limits.items()}},
    )


def test_no_limits(tmp_path: Path) -> None:
    root = write(tmp_path, {"proc/self/cgroup": "0::/\n", "proc/meminfo": "MemTotal:  2048 kB\n"})
    assert cpu_quota(root) is None
    assert memory_limit(root) == 2048 * 1024


def test_nothing_known(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None
    assert memory_limit(tmp_path) is None
    assert cpu_threads(tmp_path) == len(usable_cpus())


def test_quota_and_memory_of_version_2(tmp_path: Path) -> None:
    root = v2(tmp_path, **{"pod/box/cpu.max": "150000 100000\n", "pod/box/memory.max": "1000000\n"})
    assert cpu_quota(root) == 1.5
    assert memory_limit(root) == 1_000_000


def test_the_smallest_limit_of_all_parents_counts(tmp_path: Path) -> None:
    root = v2(tmp_path, **{"pod/box/cpu.max": "max 100000", "pod/cpu.max": "50000 100000", "cpu.max": "400000 100000"})
    assert cpu_quota(root) == 0.5
    assert cpu_threads(root) == 1


def test_version_1(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "5:memory:/box\n4:cpu,cpuacct:/box\n1:name=systemd:/\n",
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "200000",
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "123",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        },
    )
    assert cpu_quota(root) == 2
    assert memory_limit(root) == 123


@pytest.mark.parametrize("text", ["max 100000", "-1", "100000 0", "", "words and more"])
def test_what_is_no_quota(tmp_path: Path, text: str) -> None:
    assert cpu_quota(v2(tmp_path, **{"pod/box/cpu.max": text})) is None


def test_threads_of_one_core_count_once(tmp_path: Path) -> None:
    files = {f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": "0-63" for cpu in usable_cpus()}
    assert cpu_threads(write(tmp_path, files)) == 1
