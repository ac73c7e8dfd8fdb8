"""Huge pages for what is mapped while a graph is loaded: which memory it is, and that the kernel moves it."""

from __future__ import annotations

import mmap
import os
import re
import threading
from pathlib import Path

import numpy as np
import pytest

from gpux.runtime.generation.engine.decoder import Decoder
from gpux.runtime.huge_pages import WORTH, HugePages, added, aligned, collapse, mapped, page_size
from gpux.runtime.session import Session
from tests.runtime.generation.tiny_decoders import CALL_SPECS
from tests.runtime.generation.tiny_graphs import write

PAGE = 2 << 20
MAPS = """\
7f0000000000-7f0000800000 rw-p 00000000 00:00 0
7f0000800000-7f0000900000 rw-s 00000000 00:01 7   /dev/shm/x
7f0000900000-7f0000a00000 r--p 00000000 00:00 0
7f0000a00000-7f0000b00000 rw-p 00000000 08:01 9   /usr/lib/libx.so
7f0001000000-7f0001800000 rw-p 00000000 00:00 0   [heap]
7ffd00000000-7ffd00100000 rw-p 00000000 00:00 0   [stack]
"""


def system(root: Path, enabled: str, maps: str = MAPS) -> Path:
    folder = root / "sys/kernel/mm/transparent_hugepage"
    folder.mkdir(parents=True)
    (folder / "enabled").write_text(enabled)
    (folder / "hpage_pmd_size").write_text(f"{PAGE}\n")
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/maps").write_text(maps)
    return root


@pytest.mark.parametrize(
    ("enabled", "size"),
    [("always [madvise] never\n", PAGE), ("[always] madvise never\n", 0), ("always madvise [never]\n", 0)],
)
def test_page_size_only_if_huge_pages_are_given_on_request(tmp_path: Path, enabled: str, size: int) -> None:
    assert page_size(system(tmp_path, enabled)) == size


def test_a_system_without_them(tmp_path: Path) -> None:
    assert page_size(tmp_path) == 0
    pages = HugePages(tmp_path)
    with pages.watching():
        pass
    assert pages.count(WORTH) is None


def test_private_memory_without_a_file(tmp_path: Path) -> None:
    found = mapped(system(tmp_path, "always [madvise] never"))
    assert found == [(0x7F0000000000, 0x7F0000800000), (0x7F0001000000, 0x7F0001800000)]


@pytest.mark.parametrize(
    ("before", "after", "new"),
    [
        ([], [(0, 5)], [(0, 5)]),
        ([(0, 5)], [(0, 5)], []),
        ([(2, 4)], [(0, 9)], [(0, 2), (4, 9)]),
        ([(0, 4), (6, 7)], [(2, 9)], [(4, 6), (7, 9)]),
        ([(0, 9)], [(2, 4)], []),
        ([(0, 2)], [(4, 6), (8, 9)], [(4, 6), (8, 9)]),
    ],
)
def test_added_ranges(before: list[tuple[int, int]], after: list[tuple[int, int]], new: list[tuple[int, int]]) -> None:
    assert list(added(before, after)) == new


def test_aligned_ranges_are_whole_pages() -> None:
    assert list(aligned([(1, 10), (10, 12), (16, 24)], 4)) == [(4, 8), (16, 24)]


@pytest.mark.skipif(not page_size(), reason="this system gives huge pages to nobody who asks, or to everybody")
def test_kernel_moves_mapped_memory() -> None:
    probe = touched(8)
    whole = next(aligned([(probe.ctypes.data, probe.ctypes.data + probe.size)], page_size()))
    if error := collapse(whole[0], whole[1] - whole[0]):
        pytest.skip(f"this kernel gives no huge pages: {os.strerror(error)}")
    pages = HugePages()
    with pages.watching():
        array = touched(8, apart=True)
    assert in_huge_pages(array.ctypes.data) == 0
    thread = pages.count(WORTH)
    assert thread is not None
    thread.join()
    assert in_huge_pages(array.ctypes.data) > 0
    assert (array == 7).all()
    assert pages.count(WORTH) is None


def touched(pages: int, *, apart: bool = False) -> np.ndarray:  # type: ignore[type-arg]
    """Private memory of the size of so many huge pages, in use; ``apart``: not merged with other mappings."""
    memory = mmap.mmap(-1, pages * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_DONTFORK if apart else mmap.MADV_NORMAL)
    array = np.frombuffer(memory, np.uint8)
    array[:] = 7
    return array


def in_huge_pages(address: int) -> int:
    """Bytes in huge pages of the mapping that holds an address."""
    for block in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text()):
        start, end = (int(part, 16) for part in block.split(maxsplit=1)[0].split("-"))
        if start <= address < end:
            return int(re.findall(r"AnonHugePages:\s+(\d+)", block)[0]) * 1024
    raise AssertionError(address)


def test_nothing_is_moved_after_stop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[int] = []
    monkeypatch.setattr("gpux.runtime.huge_pages.collapse", lambda start, size: asked.append(size) or 0)
    pages = HugePages(system(tmp_path, "always [madvise] never", ""))
    with pages.watching():
        (tmp_path / "proc/self/maps").write_text(MAPS)
    pages.stop()
    assert pages.count(WORTH) is None
    assert asked == []


def test_nothing_is_moved_after_few_runs(tmp_path: Path) -> None:
    pages = HugePages(system(tmp_path, "always [madvise] never", ""))
    with pages.watching():
        (tmp_path / "proc/self/maps").write_text(MAPS)
    pages.stop()  # so that nothing is asked of the kernel
    pages._ranges = [(0, PAGE)]
    assert pages.count(WORTH - 1) is None
    assert pages.count(1) is not None
    assert pages.count(WORTH) is None


def test_failure_to_start_a_thread_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    pages = HugePages(system(tmp_path, "always [madvise] never", ""))
    pages._ranges = [(0, PAGE)]
    assert pages.count(WORTH) is None


def test_the_steps_of_a_state_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    monkeypatch.setattr(HugePages, "count", lambda self, runs: counted.append(runs))
    with Session(write(tmp_path / "model.onnx", "shared"), device="cpu", huge_pages=True) as session:
        state = Decoder(session, CALL_SPECS["shared"]).open(7)
        state.start([[1, 2, 3]])
        state.step(np.array([4]))
        state.step(np.array([5]))
        state.close()
    assert counted == [1, 1]
