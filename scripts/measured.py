"""Runs a command and measures the peak memory of its process tree. Linux only."""

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
    """Time and memory of one command."""

    seconds: float
    peak_rss: int  #: bytes, the largest sum over the process and its descendants


def measure(command: Sequence[str | Path], env: Mapping[str, str], cwd: Path | None = None) -> Run:
    """Run a command to its end.

    Raises:
        subprocess.CalledProcessError: the command failed; ``output`` has the end of its output.
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
        output, _ = process.communicate()
        seconds = time.perf_counter() - began
        watch.stop()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args, output[-2000:])
    return Run(seconds, watch.peak)


class _Watch(threading.Thread):
    """Samples the summed resident memory of a process tree."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self._root = root
        self._ended = threading.Event()
        self.peak = 0

    def run(self) -> None:
        while not self._ended.wait(_INTERVAL):
            self.peak = max(self.peak, sum(_resident(process) for process in _tree(self._root)))

    def stop(self) -> None:
        """Stop and join the thread."""
        self._ended.set()
        self.join()


def _tree(root: int) -> list[int]:
    """The process and all its descendants, in any process group."""
    found = [root]
    for process in found:
        found += _children(process)
    return found


def _children(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task")
    try:
        return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]
    except OSError:  # the process has ended
        return []


def _resident(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0
