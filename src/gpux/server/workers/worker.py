"""The server's side of one worker process."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import itertools
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self

import msgspec
import psutil

from gpux.errors import DeadlineError, GpuxError, InputError, RunError, SlowReaderError, WorkerDiedError
from gpux.server.observer import Observer, Watch
from gpux.server.workers import framing
from gpux.server.workers.messages import (
    Cancel,
    Close,
    Failed,
    Last,
    Load,
    Open,
    Piece,
    Ready,
    Request,
    UseCores,
)

#: Seconds that a process has to end after :class:`Close`.
GRACE = 5.0
#: Bytes of a process's log after which the next process begins it anew.
LARGEST_LOG = 1 << 20
#: Bytes that are read from the pipe at once.
BUFFER = 1 << 20
Reply = Piece | Last


@dataclass(frozen=True)
class ReaderLimits:
    """What the server keeps of an answer whose client reads slowly."""

    pieces: int = 2048
    bytes: int = 1 << 20
    seconds: float = 10.0  #: that a reader may be above these limits before its request is cancelled
    linger: float = 30.0  #: after the end of an answer, until its reader no longer keeps the model from being unloaded


@dataclass(eq=False)
class _Reader:
    """The replies to one request that were not read yet."""

    queue: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    pieces: int = 0
    bytes: int = 0
    full_since: float | None = None
    stalled: bool = False

    def put(self, piece: Piece) -> None:
        self.pieces += 1
        self.bytes += size_of(piece)
        self.queue.put_nowait(piece)

    def taken(self, piece: Piece, limits: ReaderLimits) -> None:
        self.pieces -= 1
        self.bytes -= size_of(piece)
        if not self.above(limits):
            self.full_since = None

    def above(self, limits: ReaderLimits) -> bool:
        return self.pieces > limits.pieces or self.bytes > limits.bytes

    def fail(self, error: GpuxError) -> None:
        """Replace what was not read by an error."""
        while not self.queue.empty():
            self.queue.get_nowait()
        self.pieces = self.bytes = 0
        self.queue.put_nowait(error)


def size_of(piece: Piece) -> int:
    """Bytes of a piece, about."""
    return 100 + len(piece.text) + 8 * len(piece.tokens) + 100 * len(piece.scores)


class Worker:
    """A process that runs one model. Used in one event loop.

    Args:
        process: the started process.
        name: of the model, for messages.
        timeout: seconds that one answer may take.
        limits: of readers.
        observer: is given what the process does.
        check: raises an error for a request that is not sent; called with each one.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        name: str,
        *,
        timeout: float | None = None,
        limits: ReaderLimits | None = None,
        observer: Observer | None = None,
        check: Callable[[Request], None] | None = None,
    ) -> None:
        self.name = name
        self._observer = observer or Observer()
        self._check_request = check
        self.load = Load()  #: the last report of what it is doing
        self.cores: list[int] | None = None  #: the last :class:`UseCores`
        self.service = 0.0  #: seconds that the last requests took in the worker, without waiting; a moving average
        self.stalled = 0  #: requests whose reader does not read
        self.slow_readers = 0  #: requests that were cancelled for that
        self.deadlines = 0  #: requests that took too long
        self.closing = False
        self.on_busy: Callable[[], None] | None = None  #: called when it begins, or ends, to have requests
        self._process = process
        self.timeout = timeout  #: seconds that one answer may take
        self._limits = limits or ReaderLimits()
        self._ids = itertools.count(1)
        self._replies: dict[int, _Reader] = {}
        self._running: dict[int, Watch] = {}
        self._end: GpuxError | None = None  # what requests get when the process ends by request
        self._outgoing: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]
        self.info: Ready

    @classmethod
    async def launch(
        cls,
        opening: Open,
        name: str,
        *,
        log: Path,
        timeout: float | None = None,
        limits: ReaderLimits | None = None,
        observer: Observer | None = None,
        check: Callable[[Request], None] | None = None,
    ) -> Self:
        """Start a process that opens the model; :meth:`ready` waits for it.

        Raises:
            RunError: the process cannot be started.
        """
        with _log(log) as errors:
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-P",
                    "-m",
                    "gpux.server.workers.program",
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=errors,
                    start_new_session=True,
                    limit=BUFFER,
                )
            except OSError as error:
                hint = "The machine may have too little memory or too many processes."
                raise RunError(f"the process of {name} cannot be started", hint=hint) from error
        worker = cls(process, name, timeout=timeout, limits=limits, observer=observer, check=check)
        worker._send(opening)
        return worker

    async def ready(self) -> Ready:
        """Wait until the model is open; the process is ended if that fails, or if the caller is cancelled.

        Raises:
            GpuxError: the model cannot be opened.
            WorkerDiedError: the process ended before the model was open.
        """
        try:
            self.info = await self._ready
        except BaseException:
            await self.close(grace=0)
            raise
        return self.info

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.returncode is None and not self._tasks[0].done()

    @property
    def requests(self) -> int:
        """Requests that have not ended in the process, those that were cancelled included."""
        return len(self._running)

    def memory_bytes(self) -> int:
        """Resident bytes of the process; 0 when it has ended."""
        try:
            return int(psutil.Process(self.pid).memory_info().rss)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return 0

    def use_cores(self, cores: list[int]) -> None:
        """Let the process run on these logical processors only."""
        self.cores = cores
        self._send(UseCores(cores))

    async def ended(self) -> WorkerDiedError:
        """Wait until the process has ended; the error that its requests got, or would get."""
        await asyncio.wait({self._tasks[0]})
        return self._died()

    async def replies(self, request: Request) -> AsyncGenerator[Reply, None]:
        """Send a request and yield its replies; the request is cancelled when the iterator is closed early.

        Raises:
            GpuxError: the request failed, or is refused before it is sent.
            DeadlineError: it took longer than the timeout.
            SlowReaderError: the pieces were not read in time.
            WorkerDiedError: the process ended.
        """
        if self._check_request is not None:
            self._check_request(request)
        request.id = next(self._ids)
        reader = _Reader()
        ended = False
        watch = self._observer.watch(self.name, request)
        deadline = None if self.timeout is None else asyncio.get_running_loop().time() + self.timeout
        try:
            self._check_alive()
            self._send_request(request)
            self._replies[request.id] = reader
            self._begin(request.id, watch)
            while not ended:
                reply = await self._next(reader, deadline)
                ended = not isinstance(reply, Piece)
                if ended:
                    watch.answered()
                yield reply
        except GpuxError as error:
            watch.failed(error)
            raise
        except BaseException:
            if not ended:
                watch.failed(None)
            raise
        finally:
            self._replies.pop(request.id, None)
            self.stalled -= reader.stalled
            if not ended and request.id in self._running:
                self._send(Cancel(request.id))

    async def ask(self, request: Request) -> Any:
        """The last reply to a request, such as :class:`~gpux.server.workers.messages.Answered`.

        Raises:
            GpuxError: the request failed.
        """
        async with contextlib.aclosing(self.replies(request)) as replies:
            async for reply in replies:
                last = reply
        return last

    def fail_requests(self, error: GpuxError) -> None:
        """End every request with an error; the process itself continues."""
        for reader in self._replies.values():
            reader.queue.put_nowait(copy.copy(error))  # each with a traceback and details of its own

    async def close(self, *, grace: float = GRACE, error: GpuxError | None = None) -> None:
        """End the process; requests that run fail. May be called twice.

        Args:
            grace: seconds until it is killed.
            error: what these requests raise.
        """
        self.closing = True
        self._end = error or self._end
        if self._process.returncode is None:
            self._send(Close())
            self._outgoing.put_nowait(None)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._process.wait(), grace)
        self._kill()
        await self._process.wait()
        await asyncio.wait(self._tasks, timeout=GRACE)
        for task in self._tasks:
            task.cancel()

    def _check_alive(self) -> None:
        if not self.alive or self.closing:
            raise copy.copy(self._end) if self._end is not None else self._died()

    def _send_request(self, request: Request) -> None:
        try:
            self._send(request)
        except (OverflowError, ValueError):  # an integer of more than 64 bits, or a message beyond the largest
            raise InputError(
                "the request is too large, or has an integer that is too large", hint="Send less at once."
            ) from None

    async def _next(self, reader: _Reader, deadline: float | None) -> Reply:
        try:
            async with asyncio.timeout_at(deadline):
                reply = await reader.queue.get()
        except TimeoutError:
            self.deadlines += 1
            raise DeadlineError(
                f"the answer of {self.name} was not complete within {self.timeout:g} s",
                hint="Request fewer tokens or fewer inputs at once.",
                should_retry=False,
            ) from None
        if isinstance(reply, GpuxError):
            raise reply
        if isinstance(reply, Piece):
            reader.taken(reply, self._limits)
        found: Reply = reply
        return found

    def _begin(self, id: int, watch: Watch) -> None:
        self._running[id] = watch
        if len(self._running) == 1 and self.on_busy is not None:
            self.on_busy()

    def _finish(self, id: int, last: Last | None = None) -> None:
        watch = self._running.pop(id, None)
        if watch is None:
            return
        watch.ended(last)
        if not self._running and self.on_busy is not None:
            self.on_busy()

    def _kill(self) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def _send(self, message: Any) -> None:
        if self._process.returncode is None:
            self._outgoing.put_nowait(framing.encode(message))

    async def _write(self) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        with contextlib.suppress(ConnectionError):
            while (data := await self._outgoing.get()) is not None:
                pipe.write(data)
                await pipe.drain()
            pipe.close()

    async def _read(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ValueError, msgspec.DecodeError):
                while True:
                    size = framing.size_of(await pipe.readexactly(framing.HEADER))
                    self._take(framing.decode_from_worker(await pipe.readexactly(size)))
        finally:
            with contextlib.suppress(asyncio.TimeoutError):  # its output has ended, or is not one of messages
                await asyncio.wait_for(self._process.wait(), GRACE)
            self._kill()
            await self._process.wait()
            self._outgoing.put_nowait(None)  # the writer ends too
            self._fail_all(self._end or self._died())

    def _fail_all(self, error: GpuxError) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()  # retrieved, where nobody waits
        for reader in self._replies.values():
            reader.queue.put_nowait(copy.copy(error))
        for id in list(self._running):
            self._finish(id)

    def _take(self, message: Any) -> None:
        if isinstance(message, Ready):
            if not self._ready.done():  # else nobody waits any more
                self._ready.set_result(message)
        elif isinstance(message, Load):
            self.load = message
            self._observer.reported(self.name, message)
        elif isinstance(message, Failed) and message.id == 0:
            if not self._ready.done():
                self._ready.set_exception(GpuxError.from_dict(message.error))
        elif isinstance(message, Piece):
            self._take_piece(message)
        else:
            self._take_last(message)

    def _take_piece(self, piece: Piece) -> None:
        if (watch := self._running.get(piece.id)) is not None:
            watch.piece(piece)
        reader = self._replies.get(piece.id)
        if reader is None or reader.stalled:
            return
        reader.put(piece)
        if reader.full_since is None and reader.above(self._limits):
            loop = asyncio.get_running_loop()
            reader.full_since = loop.time()
            loop.call_later(self._limits.seconds, self._check, piece.id)

    def _take_last(self, message: Last | Failed) -> None:
        self._finish(message.id, None if isinstance(message, Failed) else message)
        if (timing := getattr(message, "timing", None)) is not None:
            seconds = timing.prefill + timing.decode + timing.run
            self.service = seconds if self.service == 0 else 0.8 * self.service + 0.2 * seconds
        reader = self._replies.get(message.id)
        if reader is None or reader.stalled:
            return
        reader.queue.put_nowait(GpuxError.from_dict(message.error) if isinstance(message, Failed) else message)
        if reader.pieces:
            asyncio.get_running_loop().call_later(self._limits.linger, self._release, message.id)

    def _check(self, id: int) -> None:
        """Cancel a request whose reader has been above the limits for their time."""
        reader = self._replies.get(id)
        if reader is None or reader.stalled or reader.full_since is None:
            return
        loop = asyncio.get_running_loop()
        left = reader.full_since + self._limits.seconds - loop.time()
        if left > 0.001:
            loop.call_later(left, self._check, id)
            return
        self._stall(reader)
        self.slow_readers += 1
        reader.fail(
            SlowReaderError(
                "the client did not read its answer in time, so that the answer was ended",
                hint="Read the pieces of a stream as they come, or request the whole answer without a stream.",
                should_retry=False,
            )
        )
        if id in self._running:
            self._send(Cancel(id))

    def _release(self, id: int) -> None:
        """The answer is complete for a while, and its reader has not read all: it no longer needs the process."""
        reader = self._replies.get(id)
        if reader is not None and not reader.stalled:
            self._stall(reader)

    def _stall(self, reader: _Reader) -> None:
        reader.stalled = True
        self.stalled += 1

    def _died(self) -> WorkerDiedError:
        code = self._process.returncode
        how, hint = "has ended", "The server's log folder has its output."
        if code is not None and code < 0:
            how = f"was killed by signal {-code}"
        if code == -signal.SIGKILL:
            hint = "The system does so when memory is short: load fewer models, or limit them with --max-memory."
        return WorkerDiedError(
            f"the process of {self.name} {how}",
            hint=f"Send the request again: the model is started anew. {hint}",
            exit_status=code,
            should_retry=True,
        )


@contextlib.contextmanager
def _log(path: Path) -> Iterator[BinaryIO]:
    """The file for a process's output, or none where it cannot be written."""
    file: BinaryIO
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        large = path.exists() and path.stat().st_size > LARGEST_LOG
        file = path.open("wb" if large else "ab")
    except OSError:
        file = Path(os.devnull).open("wb")  # noqa: SIM115 - closed below
    with file:
        yield file
