"""Running a command while the memory of everything that it starts is watched. Linux."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_INTERVAL = 0.04
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Run:
    """What one command took."""

    seconds: float
    peak_rss: int  #: bytes, the largest sum over the process and everything below it


def measure(command: Sequence[str | Path], env: Mapping[str, str], cwd: Path | None = None) -> Run:
    """Run to the end.

    Raises:
        subprocess.CalledProcessError: it failed; what it said is in ``output``.
    """
    began = time.perf_counter()
    with subprocess.Popen(
        [str(part) for part in command],
        env=dict(env),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        watch = _Watch(process.pid)
        watch.start()
        said, _ = process.communicate()
        seconds = time.perf_counter() - began
        watch.stop()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args, said[-2000:])
    return Run(seconds, watch.peak)


class _Watch(threading.Thread):
    """Samples the sum of resident pages over a tree of processes."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self._root = root
        self._ended = threading.Event()
        self.peak = 0

    def run(self) -> None:
        while not self._ended.wait(_INTERVAL):
            self.peak = max(self.peak, sum(_resident(process) for process in _tree(self._root)))

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self.join()


def _tree(root: int) -> list[int]:
    """The process and everything below it, whatever group it is in."""
    found = [root]
    for process in found:
        found += _children(process)
    return found


def _children(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task")
    try:
        return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]
    except OSError:  # it has ended
        return []


def _resident(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0
