"""The server's side of one worker process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Self

import psutil

from gpux.errors import GpuxError, WorkerDiedError
from gpux.server.observer import Observer
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
Reply = Piece | Last


class Worker:
    """A process that runs one model. Used in one event loop.

    Args:
        process: the started process.
        name: of the model, for messages.
        observer: is given what the process does.
    """

    def __init__(self, process: asyncio.subprocess.Process, name: str, observer: Observer | None = None) -> None:
        self.name = name
        self._observer = observer or Observer()
        self.load = Load()  #: the last report of what it is doing
        self._process = process
        self._ids = itertools.count(1)
        self._replies: dict[int, asyncio.Queue[Any]] = {}
        self._outgoing: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]
        self.info: Ready

    @classmethod
    async def start(cls, opening: Open, name: str, *, log: Path, observer: Observer | None = None) -> Self:
        """Start a process and open the model in it.

        Raises:
            GpuxError: the model cannot be opened.
            WorkerDiedError: the process ended before the model was open.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "gpux.server.workers.program",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        worker = cls(process, name, observer)
        try:
            worker._send(opening)
            worker.info = await worker._ready
        except BaseException:
            await worker.close(grace=0)
            raise
        return worker

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
        """Requests that have not ended."""
        return len(self._replies)

    def memory_bytes(self) -> int:
        """Resident bytes of the process; 0 when it has ended."""
        try:
            return int(psutil.Process(self.pid).memory_info().rss)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return 0

    def use_cores(self, cores: list[int]) -> None:
        """Let the process run on these logical processors only."""
        self._send(UseCores(cores))

    async def replies(self, request: Request) -> AsyncGenerator[Reply, None]:
        """Send a request and yield its replies; the request is cancelled when the iterator is closed early.

        Raises:
            GpuxError: the request failed.
            WorkerDiedError: the process ended.
        """
        request.id = next(self._ids)
        replies: asyncio.Queue[Any] = asyncio.Queue()
        self._replies[request.id] = replies
        ended = False
        watch = self._observer.watch(self.name, request)
        try:
            if not self.alive:
                raise self._died()
            self._send(request)
            while not ended:
                reply = await replies.get()
                if isinstance(reply, GpuxError):
                    raise reply
                ended = not isinstance(reply, Piece)
                watch.reply(reply)
                yield reply
        except GpuxError as error:
            ended = True
            watch.failed(error)
            raise
        finally:
            self._replies.pop(request.id, None)
            if not ended:
                watch.failed(None)
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

    async def close(self, *, grace: float = GRACE) -> None:
        """End the process; requests that run fail. May be called twice."""
        if self._process.returncode is None:
            self._send(Close())
            self._outgoing.put_nowait(None)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._process.wait(), grace)
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()
        await asyncio.wait(self._tasks, timeout=GRACE)
        for task in self._tasks:
            task.cancel()

    def _send(self, message: Any) -> None:
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
            with contextlib.suppress(asyncio.IncompleteReadError):
                while True:
                    size = framing.size_of(await pipe.readexactly(framing.HEADER))
                    self._take(framing.decode_from_worker(await pipe.readexactly(size)))
        finally:
            await self._process.wait()
            error = self._died()
            if not self._ready.done():
                self._ready.set_exception(error)
            for replies in self._replies.values():
                replies.put_nowait(error)

    def _take(self, message: Any) -> None:
        if isinstance(message, Ready):
            self._ready.set_result(message)
        elif isinstance(message, Load):
            self.load = message
            self._observer.reported(self.name, message)
        elif isinstance(message, Failed):
            error = GpuxError.from_dict(message.error)
            if message.id == 0 and not self._ready.done():
                self._ready.set_exception(error)
            elif (replies := self._replies.get(message.id)) is not None:
                replies.put_nowait(error)
        elif (replies := self._replies.get(message.id)) is not None:
            replies.put_nowait(message)

    def _died(self) -> WorkerDiedError:
        code = self._process.returncode
        how = f"was killed by signal {-code}" if code is not None and code < 0 else "has ended"
        return WorkerDiedError(
            f"the process of {self.name} {how}",
            hint="Send the request again: the model is started anew. The server's log folder has its output.",
            exit_status=code,
        )
