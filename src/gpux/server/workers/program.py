"""The program of a worker process: one open model, requests on standard input, replies on standard output.

Standard input stays open: when the server dies, for whatever reason, the kernel closes it and the process ends. What
libraries print on standard output goes to standard error, as messages have a private descriptor. One thread reads,
one writes, and the engine's own threads run the model, so that no side waits for the other with full pipes.
"""

from __future__ import annotations

import faulthandler
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from gpux.server.workers import framing
from gpux.server.workers.messages import Cancel, Close, Failed, Open, UseCores
from gpux.system.machine import core_groups

if TYPE_CHECKING:
    from gpux.server.workers.engine import Engine

#: Seconds from the end of the server's messages to the end of the process, after :class:`Close`.
GRACE = 10.0


class Output:
    """Messages to the server, written by a thread of its own; safe to use from many threads."""

    def __init__(self, stream: BinaryIO, plain: Callable[[Any], Any]) -> None:
        self._stream = stream
        self._encode = framing.encoder(plain)
        self._waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="output", daemon=True)
        self._thread.start()

    def send(self, message: Any) -> None:
        """Queue a message.

        Raises:
            ValueError: it is too large.
        """
        self._waiting.put(self._encode(message))

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
    faulthandler.enable()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the server ends its requests, and then this process
    stream = os.fdopen(os.dup(1), "wb", buffering=1 << 16)
    os.dup2(2, 1)
    source = os.fdopen(os.dup(0), "rb", buffering=1 << 16)
    first = _read(source)
    if not isinstance(first, Open):
        return
    _limit_threads(first.threads)
    from gpux.server.workers.engine import open_engine  # after the limits, which libraries read when they are loaded
    from gpux.server.workers.operations import plain

    output = Output(stream, plain)
    incoming: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(source, incoming), name="input", daemon=True).start()
    try:
        engine = open_engine(first, output.send)
    except Exception as error:  # noqa: BLE001 - of any library that reads the model
        from gpux.server.workers.engine import failed

        output.send(Failed(failed(error)))
        output.close()
        return
    _serve(incoming, engine)
    engine.close()
    output.close()
    os._exit(0)  # while a thread still reads standard input


def _receive(source: BinaryIO, incoming: queue.SimpleQueue[Any]) -> None:
    """Put messages into a queue; end the process when the server has ended, whatever runs."""
    closing = False
    while (message := _read(source)) is not None:
        closing = closing or isinstance(message, Close)
        incoming.put(message)
    if closing:  # the server waits for what runs, and ends this process if that takes too long
        time.sleep(GRACE)
    os._exit(0)


def _serve(incoming: queue.SimpleQueue[Any], engine: Engine) -> None:
    while not isinstance(message := incoming.get(), Close):
        if isinstance(message, Cancel):
            engine.cancel(message.id)
        elif isinstance(message, UseCores):
            use_cores(message.cores)
            engine.use_cores(sum(not set(message.cores).isdisjoint(group) for group in core_groups()))
        elif not isinstance(message, Open):
            engine.submit(message)


def _read(source: BinaryIO) -> Any:
    header = source.read(framing.HEADER)
    if len(header) < framing.HEADER:
        return None
    size = framing.size_of(header)
    data = source.read(size)
    return framing.decode_to_worker(data) if len(data) == size else None


def _limit_threads(threads: int) -> None:
    """Let pools of threads besides that of onnxruntime be no larger than it, unless the environment sets their size."""
    os.environ.setdefault("RAYON_NUM_THREADS", str(threads))  # of tokenizers
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # of numpy: its products are small here
        os.environ.setdefault(name, "1")


def use_cores(cores: list[int]) -> None:
    """Run every thread of this process on these logical processors, where the system can do that.

    Of two busy workers on two cores, one core for each costs nothing against two cores for both: 71 and 72 texts of
    all-MiniLM-L6-v2 a second of the processor, with two threads that sleep while they wait, where one worker alone has
    77. With one thread it is 84, so that batches then run on one (:mod:`gpux.server.workers.batching`).
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    for task in Path("/proc/self/task").iterdir():
        try:
            os.sched_setaffinity(int(task.name), cores)
        except OSError:  # the thread has ended
            continue


if __name__ == "__main__":
    main()
