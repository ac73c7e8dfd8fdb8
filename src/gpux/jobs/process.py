"""Identifies processes across reuse of their ids: the id alone may belong to a later process."""

from __future__ import annotations

import os
import platform
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from gpux.errors import UsageError
from gpux.model.values import Value


@dataclass(frozen=True)
class ProcessMark(Value):
    """A process, distinguished from every other process that has or will have its id."""

    pid: int  #: also the id of its process group and session, on systems that have them
    birth: str  #: start time by the system's own clock, which setting the wall clock does not change
    host: str  #: folders may be shared by several machines


def this_process() -> ProcessMark:
    """The mark of the calling process."""
    return ProcessMark(os.getpid(), _birth(os.getpid()) or "", _host())


def is_alive(mark: ProcessMark) -> bool:
    """True while this very process runs on this machine; False for a zombie."""
    return mark.pid > 0 and bool(mark.birth) and _birth(mark.pid) == mark.birth


def is_elsewhere(mark: ProcessMark) -> bool:
    """True if the process belongs to another machine, so that its state is unknown here."""
    return mark.host != _host() and not is_alive(mark) and mark.birth.partition(":")[0] != _boot()


def signal_group(mark: ProcessMark, number: int) -> None:
    """Send a signal to the process and its group; on Windows, which has no such signals, SIGTERM ends the process.

    Raises:
        UsageError: the process belongs to another user.
    """
    if not is_alive(mark):
        return
    try:
        if sys.platform != "win32":
            os.killpg(mark.pid, number)
        elif number == signal.SIGTERM:
            os.kill(mark.pid, number)
    except ProcessLookupError:  # it ended in the meantime
        return
    except PermissionError as exc:
        if is_alive(mark):  # macOS also refuses for a group of zombies
            raise UsageError(f"process {mark.pid} belongs to another user") from exc


def _host() -> str:
    return platform.node().partition(".")[0]  # the domain changes with the network that a laptop is in


def _birth(pid: int) -> str | None:
    """Boot and start time of a running process; None if there is no such process, or it is a zombie."""
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        return f"{_boot()}:{_start(process)}"
    except psutil.Error:
        return None


if sys.platform == "linux":

    def _start(process: psutil.Process) -> str:
        """Ticks from boot to start: proc(5), field 22 of stat.

        ``psutil.Process.create_time`` adds the boot time, which changes when the wall clock is set.
        """
        try:
            stat = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError as exc:
            raise psutil.NoSuchProcess(process.pid) from exc
        return stat.rpartition(")")[2].split()[19]  # the process name in parentheses may contain anything

    def _boot() -> str:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()

else:

    def _start(process: psutil.Process) -> str:
        """The start time that the system stored when the process started."""
        return str(process.create_time())

    def _boot() -> str:
        return "unknown"
