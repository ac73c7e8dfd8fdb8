"""Which process is it, and is it still there: a number that was given away again must not pass for the first owner."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from gpux.errors import UsageError
from gpux.model.values import Value


@dataclass(frozen=True)
class ProcessMark(Value):
    """A process, told apart from every other that has or will have its number."""

    pid: int  #: also the number of its group and session, where the system has those
    birth: str  #: when it started, as its system tells: no wall clock that someone may set
    host: str  #: folders may be shared by several machines


def this_process() -> ProcessMark:
    """The mark of the process that asks."""
    return ProcessMark(os.getpid(), _birth(os.getpid()) or "", _host())


def is_alive(mark: ProcessMark) -> bool:
    """True while this very process runs on this machine; one that ended and that nobody waited for does not run."""
    return mark.pid > 0 and bool(mark.birth) and _birth(mark.pid) == mark.birth


def is_elsewhere(mark: ProcessMark) -> bool:
    """True if only another machine can tell whether the process runs."""
    return mark.host != _host() and not is_alive(mark) and mark.birth.partition(":")[0] != _boot()


def signal_group(mark: ProcessMark, number: int) -> None:
    """Send a signal to the process and its group; on Windows, which has no such signals, end it if it is to be killed.

    Raises:
        UsageError: the process is another user's.
    """
    if not is_alive(mark):
        return
    try:
        if sys.platform != "win32":
            os.killpg(mark.pid, number)
        elif number == signal.SIGTERM:
            os.kill(mark.pid, number)
    except ProcessLookupError:  # it was faster
        return
    except PermissionError as exc:
        if is_alive(mark):  # macOS refuses for a group of zombies too
            raise UsageError(f"process {mark.pid} belongs to another user") from exc


def _host() -> str:
    return platform.node().partition(".")[0]  # the domain changes with the network that a laptop is in


if sys.platform == "linux":

    def _birth(pid: int) -> str | None:
        """Ticks from the boot to the start, and which boot: proc(5), fields 3 and 22 of stat."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
        return None if fields[0] in "ZX" else f"{_boot()}:{fields[19]}"

    def _boot() -> str:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()

elif sys.platform == "win32":

    def _birth(pid: int) -> str | None:
        """100 ns since 1601, from GetProcessTimes."""
        import ctypes
        from ctypes import wintypes

        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.OpenProcess.restype = wintypes.HANDLE
        handle = kernel.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
        if not handle:
            return None
        try:
            code = wintypes.DWORD()
            times = [wintypes.FILETIME() for _ in range(4)]
            pointers = [ctypes.byref(time) for time in times]
            told = kernel.GetExitCodeProcess(wintypes.HANDLE(handle), ctypes.byref(code))
            told = told and kernel.GetProcessTimes(wintypes.HANDLE(handle), *pointers)
        finally:
            kernel.CloseHandle(wintypes.HANDLE(handle))
        running = told and code.value == 259  # STILL_ACTIVE
        return f":{times[0].dwHighDateTime << 32 | times[0].dwLowDateTime}" if running else None

    def _boot() -> str:
        return "unknown"

else:

    def _birth(pid: int) -> str | None:
        """The start to the second, as ps prints it."""
        command = ["/bin/ps", "-o", "state=,lstart=", "-p", str(pid)]
        shown = subprocess.run(command, capture_output=True, text=True, env={"LC_ALL": "C", "TZ": "UTC"}, check=False)
        state, _, started = shown.stdout.strip().partition(" ")
        return f":{started.strip()}" if started and state[:1] != "Z" else None

    def _boot() -> str:
        return "unknown"
