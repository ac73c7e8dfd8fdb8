"""The program that does a job's work: ``python -m gpux.cli.job_runner FOLDER MODELS ARGUMENT...``; nothing imports it.

It runs the command line itself, so there is one process to watch, and to kill. Started by
:func:`gpux.jobs.control.start`, which waits until the job is written down or this process ended.
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

_POLL = 0.2  # seconds between looks for a request to end, where there are no signals for that


def main(arguments: list[str]) -> int:
    """Detach, write the job down, run the command, write down how it ended; the command's exit code."""
    folder, models, command = JobFolder(Path(arguments[0])), json.loads(arguments[1]), arguments[2:]
    written_down = _detach()
    output = io.BytesIO()
    heard: list[int] = []
    code = 1
    try:
        _heed_signals(folder, heard)
        write_whole(folder.job, json.dumps(_describe(command, models), indent=2))
        written_down()
        code = _run(command, output)
    except KeyboardInterrupt:  # before or after the command, which has its own way to end
        code = INTERRUPTED
    finally:
        if heard and not output.getvalue():  # Ctrl-C while a library is loaded may come out as any error
            code = INTERRUPTED
        _write_end(folder, code, output.getvalue())
    return code


def _detach() -> Any:
    """Go on as a child of the system's first process, in a session of its own; what tells the parent that all is well.

    The parent ends with 0 when that is called and with 1 if this process ends before. As a grandchild of the process
    that started it, nobody has to wait for this one, and it can never get a terminal.
    """
    if sys.platform == "win32":  # started as a process of its own, which nobody has to wait for
        return lambda: None
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        os._exit(0 if os.read(reading, 1) else 1)
    os.close(reading)
    os.setsid()

    def written_down() -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(writing, b".")
        os.close(writing)

    return written_down


def _heed_signals(folder: JobFolder, heard: list[int]) -> None:
    """Asked to end, end as with Ctrl-C, and note it; a closing terminal is no reason."""

    def end(number: int, frame: Any) -> None:
        heard.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    if sys.platform == "win32":
        threading.Thread(target=_watch, args=(folder.cancelled,), daemon=True).start()
    else:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _watch(cancelled: Path) -> None:
    """Windows sends no signal to a process without a console: the file is the request."""
    while not cancelled.exists():
        time.sleep(_POLL)
    signal.raise_signal(signal.SIGINT)


def _describe(command: list[str], models: list[str]) -> dict[str, Any]:
    known = {"arguments": command, "models": models, "started": now(), "version": __version__}
    return known | this_process().to_dict()


def _run(command: list[str], output: io.BytesIO) -> int:
    """The command line with ``--json``, its standard output kept; talk goes to the log."""
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
    """Standard error; a full disk loses the remark and not the work."""

    def write(self, data: Any) -> int:
        with contextlib.suppress(OSError):
            return super().write(data) or 0
        return len(data)


def _write_end(folder: JobFolder, code: int, output: bytes) -> None:
    """Result and exit code; the code also where the disk has no room for the result."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        folder.reserve.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        write_whole(folder.result, output.decode("utf-8") or _unexpected(folder, code))
    with contextlib.suppress(OSError):  # the folder was removed, or is not ours any more
        write_whole(folder.exit, json.dumps({"code": code, "ended": now()}))


def _unexpected(folder: JobFolder, code: int) -> str:
    """The error document of a command that ended without a word."""
    if code == 0:
        return "null"
    error: GpuxError = CancelledError("interrupted", hint="Run the same command again: what had arrived is kept.")
    if code != INTERRUPTED:
        error = GpuxError("the command ended unexpectedly", hint=f"{folder.log} has the details.")
    return json.dumps({"error": error.to_dict()})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
