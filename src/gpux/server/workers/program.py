"""The program of a worker process: one open model, requests on standard input, replies on standard output.

Standard input stays open: when the server dies, for whatever reason, the kernel closes it and the process ends. What
libraries print on standard output goes to standard error, as messages have a private descriptor. One thread reads,
one writes, and the engine's own threads run the model, so that no side waits for the other with full pipes.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
from pathlib import Path
from typing import Any, BinaryIO

from gpux.errors import GpuxError
from gpux.server.workers import framing
from gpux.server.workers.engine import Engine, open_engine
from gpux.server.workers.messages import Cancel, Close, Failed, Open, UseCores


class Output:
    """Messages to the server, written by a thread of its own; safe to use from many threads."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="output", daemon=True)
        self._thread.start()

    def send(self, message: Any) -> None:
        """Queue a message."""
        self._waiting.put(framing.encode(message))

    def close(self) -> None:
        """Write what is queued."""
        self._waiting.put(None)
        self._thread.join(10.0)

    def _write(self) -> None:
        try:
            while (data := self._waiting.get()) is not None:
                self._stream.write(data)
                if self._waiting.empty():
                    self._stream.flush()
            self._stream.flush()
        except OSError:
            os._exit(0)  # the server is gone


def main() -> None:
    """Serve until the server closes standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is the server's to handle
    stream = os.fdopen(os.dup(1), "wb", buffering=1 << 16)
    os.dup2(2, 1)
    source = os.fdopen(os.dup(0), "rb", buffering=1 << 16)
    output = Output(stream)
    first = _read(source)
    if not isinstance(first, Open):
        return
    try:
        engine = open_engine(first, output.send)
    except GpuxError as error:
        output.send(Failed(error.to_dict()))
        output.close()
        return
    _serve(source, engine)
    engine.close()
    output.close()


def _serve(source: BinaryIO, engine: Engine) -> None:
    while (message := _read(source)) is not None and not isinstance(message, Close):
        if isinstance(message, Cancel):
            engine.cancel(message.id)
        elif isinstance(message, UseCores):
            use_cores(message.cores)
        elif not isinstance(message, Open):
            engine.submit(message)


def _read(source: BinaryIO) -> Any:
    header = source.read(framing.HEADER)
    if len(header) < framing.HEADER:
        return None
    size = framing.size_of(header)
    data = source.read(size)
    return framing.decode_to_worker(data) if len(data) == size else None


def use_cores(cores: list[int]) -> None:
    """Run every thread of this process on these logical processors, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        return
    for task in Path("/proc/self/task").iterdir():
        try:
            os.sched_setaffinity(int(task.name), cores)
        except OSError:  # the thread has ended
            continue


if __name__ == "__main__":
    main()
