"""Memory of conversions: the estimate, the measurement, and the watch that kills a worker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gpux.convert import mobius, optimum
from gpux.convert.host.converter import ToolchainConverter
from gpux.convert.memory import MemoryEstimate, proof_peak
from gpux.system.machine import available_memory
from gpux.system.resident import Excess, MemoryWatch, Usage, default_limit, floor, group_usage
from gpux.system.settings import Settings

GB = 1_000_000_000
MB = 1_000_000


@pytest.mark.parametrize(
    ("weights", "measured"),
    [(0.89, 4.4), (0.97, 4.9), (0.24, 1.5)],
    ids=["t5-base", "whisper-small", "t5-small"],
)
def test_the_estimate_is_near_what_was_measured(weights: float, measured: float) -> None:
    assert optimum.SPEC.memory.peak(round(weights * GB)) / GB == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize(("weights", "measured"), [(0.091, 0.564), (0.438, 0.976)], ids=["minilm", "bert-base"])
def test_one_graph_needs_less(weights: float, measured: float) -> None:
    """The estimate is a line through these two measurements, so this only guards the numbers."""
    found = optimum.SPEC.memory.peak(round(weights * GB), one_graph=True) / GB
    assert found == pytest.approx(measured, rel=0.12)
    assert found < optimum.SPEC.memory.peak(round(weights * GB)) / GB


def test_the_number_of_graphs_does_not_matter_to_mobius() -> None:
    assert mobius.SPEC.memory.peak(GB, one_graph=True) == mobius.SPEC.memory.peak(GB)


def test_a_larger_model_never_needs_less() -> None:
    for one in (False, True):
        peaks = [optimum.SPEC.memory.peak(size * 100 * MB, one_graph=one) for size in range(100)]
        assert peaks == sorted(peaks)


def test_other_converters() -> None:
    assert mobius.SPEC.memory.peak(GB) < optimum.SPEC.memory.peak(GB)
    assert MemoryEstimate().peak(GB) >= proof_peak(GB) > GB


def test_the_proof_may_need_more_than_the_exporter(settings: Settings) -> None:
    small = ToolchainConverter(replace(optimum.SPEC, memory=MemoryEstimate(0, 0, 0)), settings)
    assert small.peak_memory(GB) == proof_peak(GB)


def test_some_memory_is_kept_free() -> None:
    assert floor(None) == floor(100 * GB) == 256 * MB
    assert floor(GB) == 30 * MB
    assert default_limit(10 * GB, 100 * GB) == 10 * GB - 256 * MB
    assert default_limit(10 * MB, GB) == 0
    assert default_limit(None, None) is None


def process(proc: Path, pid: int, group: int, session: int, **sizes: int) -> None:
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    (folder / "stat").write_text(f"{pid} (py) thon (x)) S 1 {group} {session} 0 -1\n")
    lines = [f"{name}:\t  {size} kB\n" for name, size in sizes.items()]
    (folder / "status").write_text("Name:\tpython\nThreads:\t3\n" + "".join(lines))


def test_the_memory_of_a_group_excludes_mapped_files(tmp_path: Path) -> None:
    process(tmp_path, 7, 7, 7, VmRSS=100, RssAnon=60, RssFile=30, RssShmem=10, VmSwap=5)
    process(tmp_path, 8, 7, 7, VmRSS=20, RssAnon=20, RssFile=0, RssShmem=0, VmSwap=0)
    process(tmp_path, 9, 9, 7, VmRSS=1, RssAnon=1)  # left the group, not the session
    process(tmp_path, 10, 7, 7)  # a zombie
    process(tmp_path, 11, 5, 5, VmRSS=1000, RssAnon=1000)
    (tmp_path / "12").mkdir()  # a process that ended meanwhile
    (tmp_path / "meminfo").write_text("")
    assert group_usage(7, tmp_path) == Usage(96 * 1024, 121 * 1024)


def test_a_kernel_that_reports_only_the_resident_size(tmp_path: Path) -> None:
    process(tmp_path, 7, 7, 7, VmRSS=100)
    assert group_usage(7, tmp_path) == Usage(100 * 1024, 100 * 1024)


def test_without_proc_the_resident_size_counts(tmp_path: Path) -> None:
    started = subprocess.Popen(
        [sys.executable, "-I", "-c", "x = bytes([1]) * 50_000_000; print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert started.stdout is not None
    started.stdout.readline()
    usage = group_usage(started.pid, tmp_path / "none")
    started.communicate(b"\n")
    assert usage is not None
    assert 50 * MB < usage.own == usage.resident < 500 * MB


Watch = Callable[..., MemoryWatch]


@pytest.fixture
def watch() -> tuple[Watch, list[str]]:
    """A watch over the group of this process, whose kill is only recorded."""
    killed: list[str] = []

    def make(limit: int | None = None, available: int | None = None, floor: int = 0) -> MemoryWatch:
        return MemoryWatch(
            os.getpgrp(), lambda: killed.append("killed"), limit=limit, available=lambda: available, floor=floor
        )

    return make, killed


def test_within_its_limit(watch: tuple[Watch, list[str]]) -> None:
    make, killed = watch
    watched = make(limit=10**15, available=10**12, floor=10**6)
    watched.measure()
    assert (watched.excess, killed) == (None, [])
    assert (watched.peak_rss or 0) > MB


def test_beyond_its_limit(watch: tuple[Watch, list[str]]) -> None:
    make, killed = watch
    watched = make(limit=1000)
    with watched.running():
        while watched.excess is None:
            pass
    assert killed == ["killed"]
    assert "the limit was 1.0 kB" in str(watched.excess)


def test_when_the_machine_runs_out(watch: tuple[Watch, list[str]]) -> None:
    make, killed = watch
    watched = make(available=1000, floor=2000)
    watched.measure()
    assert killed == ["killed"]
    assert watched.excess is not None
    assert watched.excess.available == 1000
    assert "only 1.0 kB were still available" in str(Excess(5, None, 1000))


def test_a_small_worker_is_not_killed_for_the_memory_of_others(watch: tuple[Watch, list[str]]) -> None:
    make, killed = watch
    make(available=1000, floor=10**15).measure()
    assert killed == []


@pytest.mark.skipif(sys.platform != "linux", reason="reported by Linux only")
def test_the_available_memory_of_this_machine() -> None:
    available = available_memory()
    assert available is not None
    assert MB < available < 10**15
