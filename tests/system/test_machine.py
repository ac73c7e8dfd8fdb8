from __future__ import annotations

from pathlib import Path

import pytest

from gpux.system.machine import available_memory, cpu_quota, cpu_threads, memory_limit, usable_cpus


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


def test_available_memory_without_limits(tmp_path: Path) -> None:
    assert available_memory(tmp_path) is None
    meminfo = "MemTotal:  4096 kB\nMemAvailable:  1024 kB\n"
    root = write(tmp_path, {"proc/self/cgroup": "0::/\n", "proc/meminfo": meminfo})
    assert available_memory(root) == 1024 * 1024


def test_available_memory_of_version_2(tmp_path: Path) -> None:
    """The parent has the lower limit; its page cache counts as free."""
    root = v2(
        tmp_path,
        **{
            "pod/box/memory.max": "max",
            "pod/box/memory.current": "900000",
            "pod/memory.max": "1000000",
            "pod/memory.current": "900000",
            "pod/memory.stat": "anon 500000\ninactive_file 300000\nactive_file 50000\nshmem 10\n",
        },
    )
    write(root, {"proc/meminfo": "MemAvailable:  1000000 kB\n"})
    assert available_memory(root) == 450_000


def test_available_memory_of_version_1(tmp_path: Path) -> None:
    folder = "sys/fs/cgroup/memory/box"
    files = {
        "proc/self/cgroup": "5:memory:/box\n",
        f"{folder}/memory.limit_in_bytes": "1000000",
        f"{folder}/memory.usage_in_bytes": "900000",
        f"{folder}/memory.stat": "inactive_file 1\nactive_file 1\ntotal_inactive_file 100000\ntotal_active_file 0\n",
    }
    assert available_memory(write(tmp_path, files)) == 200_000


def test_a_group_beyond_its_limit_has_nothing_left(tmp_path: Path) -> None:
    root = v2(tmp_path, **{"pod/box/memory.max": "1000", "pod/box/memory.current": "2000"})
    assert available_memory(root) == 0


@pytest.mark.parametrize("text", ["max 100000", "-1", "100000 0", "", "words and more"])
def test_invalid_quotas(tmp_path: Path, text: str) -> None:
    assert cpu_quota(v2(tmp_path, **{"pod/box/cpu.max": text})) is None


def test_threads_of_one_core_count_once(tmp_path: Path) -> None:
    files = {f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": "0-63" for cpu in usable_cpus()}
    assert cpu_threads(write(tmp_path, files)) == 1
