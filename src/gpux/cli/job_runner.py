"""The program that runs a job: ``python -m gpux.cli.job_runner FOLDER MODELS ARGUMENT...``; no module imports it.

It runs the command line in its own process, so there is one process to watch and to kill.
:func:`gpux.jobs.control.start` starts it and waits until ``job.json`` exists or this process has ended.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from gpux import __version__
from gpux.errors import CancelledError, GpuxError
from gpux.jobs.job import INTERRUPTED, JobFolder, now, write_whole
from gpux.jobs.process import this_process

_POLL = 0.2  # seconds between checks for a cancel request on Windows, which has no signal for it


def main(arguments: list[str]) -> int:
    """Detach, write ``job.json``, run the command, write its result; returns the command's exit code."""
    folder, models, command = JobFolder(Path(arguments[0])), json.loads(arguments[1]), arguments[2:]
    report_started = _detach()
    output = io.BytesIO()
    received: list[int] = []  # signals
    code = 1
    try:
        _handle_signals(folder, received)
        write_whole(folder.job, json.dumps(_describe(command, models), indent=2))
        report_started()
        code = _run(command, output)
    except KeyboardInterrupt:  # before or after the command, which handles it itself
        code = INTERRUPTED
    finally:
        if received and not output.getvalue():  # a signal during an import may surface as any error
            code = INTERRUPTED
        _write_end(folder, code, output.getvalue())
    return code


def _detach() -> Any:
    """Continue as a daemon (double fork) in a session of its own; returns a function that reports the start.

    The parent exits with 0 when that function is called, and with 1 if this process ends before. The daemon is a child
    of init: no process has to wait for it, and it never gets a controlling terminal.
    """
    if sys.platform == "win32":  # started as a detached process
        return lambda: None
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        os._exit(0 if os.read(reading, 1) else 1)
    os.close(reading)
    os.setsid()

    def report_started() -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(writing, b".")
        os.close(writing)

    return report_started


def _handle_signals(folder: JobFolder, received: list[int]) -> None:
    """Handle SIGINT and SIGTERM as Ctrl-C and note them; ignore SIGHUP, which a closing terminal sends."""

    def end(number: int, frame: Any) -> None:
        received.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    if sys.platform == "win32":
        threading.Thread(target=_watch, args=(folder.cancelled,), daemon=True).start()
    else:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _watch(cancelled: Path) -> None:
    """Wait for the file that requests the end: Windows sends no signal to a process without a console."""
    while not cancelled.exists():
        time.sleep(_POLL)
    signal.raise_signal(signal.SIGINT)


def _describe(command: list[str], models: list[str]) -> dict[str, Any]:
    known = {"arguments": command, "models": models, "started": now(), "version": __version__}
    return known | this_process().to_dict()


def _run(command: list[str], output: io.BytesIO) -> int:
    """Run the command with ``--json``; its stdout is collected, its stderr goes to the log."""
    from gpux.cli.main import run

    name = next((index for index, word in enumerate(command) if not word.startswith("-")), 0)
    arguments = [*command[: name + 1], "--json", *command[name + 1 :]]  # not at the end: a -- may stand before
    text = io.TextIOWrapper(output, encoding="utf-8", errors="backslashreplace", write_through=True)
    log = io.TextIOWrapper(_Log(2, "w", closefd=False), encoding="utf-8", errors="backslashreplace", write_through=True)
    try:
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(log):
            return run(arguments)
    finally:
        text.detach()  # or closing it closes the output


class _Log(io.FileIO):
    """Standard error that ignores a full disk: a lost message must not end the job."""

    def write(self, data: Any) -> int:
        with contextlib.suppress(OSError):
            return super().write(data) or 0
        return len(data)


def _write_end(folder: JobFolder, code: int, output: bytes) -> None:
    """Write result and exit code; the code even if the disk has no room for the result."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        folder.reserve.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        write_whole(folder.result, output.decode("utf-8") or _unexpected(folder, code))
    with contextlib.suppress(OSError):  # the folder was removed, or is not ours any more
        write_whole(folder.exit, json.dumps({"code": code, "ended": now()}))


def _unexpected(folder: JobFolder, code: int) -> str:
    """The result of a command that printed nothing."""
    if code == 0:
        return "null"
    error: GpuxError = CancelledError("interrupted", hint="Run the same command again: downloaded bytes are kept.")
    if code != INTERRUPTED:
        error = GpuxError("the command ended unexpectedly", hint=f"See {folder.log}.")
    return json.dumps({"error": error.to_dict()})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
