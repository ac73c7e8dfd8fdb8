"""Child processes in a process group of their own, of which none outlives the call that started it.

A worker speaks JSON lines: it gets one request on standard input and answers with events, objects with an ``event``
key, on standard output. Standard input stays open: when this process dies, for whatever reason, the kernel closes the
pipe and the worker ends itself. Standard error goes to the log file. The worker's side is
:mod:`gpux.system.worker_protocol`.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

from gpux.errors import NotWritableError, OutOfMemoryError, ToolchainError
from gpux.system import machine
from gpux.system.cancel import CancelToken
from gpux.system.resident import MemoryWatch, default_limit, floor, group_processes

#: Seconds between SIGTERM and SIGKILL.
GRACE = 3.0
#: Seconds between two checks of the cancel token and of the process.
TICK = 0.1
#: Not passed on: workers are offline.
_WITHHELD = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACEHUB_API_TOKEN", "HF_TOKEN_PATH")

EventHandler = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Exit:
    """How a process ended."""

    code: int  #: negative: the signal that killed it
    #: largest measured number of bytes in RAM of all its processes together; None if it was never measured
    peak_rss: int | None = field(default=None, compare=False)

    @property
    def signal(self) -> str | None:
        """The name of the signal that killed it, such as ``SIGKILL``."""
        if self.code >= 0:
            return None
        try:
            return signal.Signals(-self.code).name
        except ValueError:
            return f"signal {-self.code}"

    def __str__(self) -> str:
        return f"was killed by {self.signal}" if self.code < 0 else f"ended with exit status {self.code}"


def converse(
    command: Sequence[str | Path],
    request: Mapping[str, Any],
    *,
    log: Path,
    on_event: EventHandler,
    cancel: CancelToken,
    grace: float = GRACE,
    memory_limit: int | None = None,
) -> Exit:
    """Start a worker, send the request, and pass its events on in the caller's thread until the worker ends.

    When this returns or raises (cancelled, Ctrl-C, an error in ``on_event``), no process of the worker's group is left.

    Args:
        command: the program with its arguments.
        request: JSON-able.
        log: file that receives its standard error.
        on_event: called with each event.
        cancel: ends the worker when set.
        grace: seconds between SIGTERM and SIGKILL.
        memory_limit: bytes that the group may use, mapped files not counted; default: the memory that is available now,
            less a reserve. The group is killed when it uses more, or when the machine has almost no memory left.

    Raises:
        CancelledError: the token was set.
        OutOfMemoryError: the worker used too much memory and was killed; ``details`` has ``peak``, and ``limit`` or
            ``available``.
        ToolchainError: the program cannot be started.
        NotWritableError: the log cannot be written.
    """
    with (
        _open(log) as errors,
        _group(command, errors, grace) as process,
        _watch(process, memory_limit).running() as watch,
    ):
        _send(process, request)
        for line in _lines(process, cancel):
            event = _event(line)
            if event is None:  # a library wrote to standard output before the worker redirected it
                errors.write(line)
                errors.flush()
            else:
                on_event(event)
        code = process.wait()
        if watch.excess is not None:
            raise _out_of_memory(watch, log)
        return Exit(code, watch.peak_rss)


def _watch(process: subprocess.Popen[bytes], limit: int | None) -> MemoryWatch:
    total = machine.memory_limit()

    def kill() -> None:
        if process.returncode is None:  # else its id may belong to another process
            _kill(process)

    if limit is None:
        limit = default_limit(machine.available_memory(), total)
    return MemoryWatch(process.pid, kill, limit=limit, available=machine.available_memory, floor=floor(total))


def _out_of_memory(watch: MemoryWatch, log: Path) -> OutOfMemoryError:
    excess = watch.excess
    assert excess is not None
    return OutOfMemoryError(
        f"the conversion {excess}, so it was stopped",
        hint=f"Close other programs to free memory, or use a machine with more. The whole output: {log}",
        log=log,
        peak=excess.peak,
        limit=excess.limit,
        available=excess.available,
    )


def run_logged(
    command: Sequence[str | Path], *, log: Path, cancel: CancelToken, on_line: Callable[[str], None] | None = None
) -> Exit:
    """Run a program that is not a worker; its output (both streams) goes to the log, each line also to ``on_line``.

    Raises:
        CancelledError: the token was set; no process of the program's group is left.
        ToolchainError: the program cannot be started.
        NotWritableError: the log cannot be written.
    """
    with _open(log) as output, _group(command, subprocess.STDOUT, GRACE) as process:
        assert process.stdin is not None
        process.stdin.close()
        for line in _lines(process, cancel):
            output.write(line)
            output.flush()
            if on_line is not None:
                on_line(line.decode("utf-8", "replace").rstrip())
        return Exit(process.wait())


def log_file(folder: Path, id: str, commit: str, name: str) -> Path:
    """The file for the output of one worker on a model, in a folder that exists afterwards.

    Raises:
        NotWritableError: the folder cannot be created.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]+", "--", id)[-80:]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise NotWritableError(
            f"{folder} cannot be written: {exc.strerror}", hint="Set GPUX_HOME to another folder."
        ) from exc
    return folder / f"{safe}-{commit[:8]}-{name}.log"


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log that are not blank; empty if there are none."""
    try:
        text = log.read_bytes()[-20_000:].decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])


@contextlib.contextmanager
def _group(command: Sequence[str | Path], errors: IO[bytes] | int, grace: float) -> Iterator[subprocess.Popen[bytes]]:
    process = _start([str(part) for part in command], errors)
    try:
        yield process
    finally:
        stop(process, grace)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # an unread request is still in the buffer
                    stream.close()


def _start(command: list[str], errors: IO[bytes] | int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=_environment(),
            **_own_group(),
        )
    except OSError as exc:
        raise ToolchainError(f"{command[0]} cannot be started: {exc}", hint="Install the toolchain again.") from exc


def _open(log: Path) -> IO[bytes]:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return log.open("ab")
    except PermissionError as exc:
        raise NotWritableError(f"the log {log} cannot be written: {exc.strerror}") from exc


def _own_group() -> dict[str, Any]:
    """A process group of its own: Ctrl-C on the terminal reaches gpux alone, and the group can be killed as a whole."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _environment() -> dict[str, str]:
    # Passed on unread: only Settings interprets environment variables.
    return {name: value for name, value in os.environ.items() if name not in _WITHHELD}


def _send(process: subprocess.Popen[bytes], request: Mapping[str, Any]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # the worker ended at once: its exit status is reported
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()


def _lines(process: subprocess.Popen[bytes], cancel: CancelToken) -> Iterator[bytes]:
    """Lines of the process's output, read in a second thread so that this one can check the token."""
    lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(process.stdout, lines), name="worker-output", daemon=True).start()
    ended = False
    while True:
        cancel.check()
        try:
            line = lines.get(timeout=TICK)
        except queue.Empty:
            if ended:  # a child of the process holds the output open; its output is ignored
                return
            ended = process.poll() is not None
            continue
        if line is None:
            _await_end(process, cancel)
            return
        yield line


def _await_end(process: subprocess.Popen[bytes], cancel: CancelToken) -> None:
    """Wait for the end of a process that closed its output."""
    while process.poll() is None:
        cancel.check()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(TICK)


def _read(stream: IO[bytes], lines: queue.SimpleQueue[bytes | None]) -> None:
    with contextlib.suppress(OSError, ValueError):  # closed by the other thread
        for line in stream:
            lines.put(line)
    lines.put(None)


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("event"), str) else None


def stop(process: subprocess.Popen[bytes], grace: float) -> None:
    """End the process and its group: SIGTERM, and SIGKILL for what is left after ``grace`` seconds."""
    # Without process groups the descendants must be found while their parents are alive.
    descendants = group_processes(process.pid)[1:] if sys.platform == "win32" else []
    if process.poll() is None:
        _terminate(process)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    _kill(process)
    for descendant in descendants:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            descendant.kill()
    process.wait()


def _terminate(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        process.terminate()
    else:
        _signal_group(process.pid, signal.SIGTERM)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if sys.platform != "win32":
        _signal_group(process.pid, signal.SIGKILL)  # the leader may have ended while its children run
    elif process.poll() is None:
        process.kill()


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
        os.killpg(group, number)
