"""Answers to many requests at the same time: in one batch where the graph supports it, else one after the other.

A request is prepared in one thread (its chat template, tokens, the grammar of its answer), and decoded in another, so
that a long text does not delay the tokens of others.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Self

from gpux.errors import GpuxError, SessionError, UsageError
from gpux.model.values import Value
from gpux.pipelines.generation.streaming import TextStreamer
from gpux.pipelines.generation.writing import Piece, Texts
from gpux.runtime.generation.choose.row import Emitted
from gpux.runtime.generation.engine.decoder import Decoder
from gpux.runtime.generation.loops.request import DecodeRequest
from gpux.runtime.generation.results import FinishReason, Generation, Timings
from gpux.runtime.generation.scheduler.job import Job
from gpux.runtime.generation.scheduler.scheduler import Scheduler, as_ours, can_batch, shares_batch
from gpux.system.cancel import CancelToken
from gpux.system.machine import available_memory

if TYPE_CHECKING:
    from gpux.pipelines.generation.base import GenerationPipeline

log = logging.getLogger(__name__)

#: Share of the free memory that the cache may use.
_SHARE = 0.5
#: Bytes of the cache at least, for a model whose context is unknown.
_LEAST_CACHE = 64 << 20

OnPiece = Callable[[Piece], None]
OnDone = Callable[[tuple[Generation, ...] | GpuxError], None]
Writing = Generator[Piece, None, tuple[Generation, ...]]


@dataclass(frozen=True)
class Prepared:
    """A request whose options are checked and whose prompt is tokenized."""

    request: DecodeRequest  #: with one prompt
    reuse: bool  #: whether kept tokens may be used, and its own may be kept
    write: Callable[[], Writing]  #: generates the answer alone


@dataclass(frozen=True)
class ConcurrentStats(Value):
    """What a generator is doing."""

    running: int  #: requests whose prompt is read, or whose answer is generated
    waiting: int  #: requests
    rows: int  #: sequences that are decoded
    cache_bytes: int  #: of the cache of all sequences; 0 where requests take turns
    prefix_bytes: int  #: of what is kept of ended answers, besides
    steps: int  #: decoding steps since the start
    batch_sizes: Mapping[int, int]  #: sequences of a step -> number of steps since the last time that this was read


class ConcurrentGenerator:
    """Generates the answers to many requests at the same time. Safe to use from many threads.

    >>> with pipe.concurrent(max_rows=8) as generator:
    ...     generator.submit("Once upon a time", on_piece=print, on_done=print, max_new_tokens=40)
    ...     with generator.stream([{"role": "user", "content": "Hello!"}]) as stream:
    ...         for piece in stream:
    ...             print(piece, end="", flush=True)

    Made by :meth:`~gpux.pipelines.generation.base.GenerationPipeline.concurrent`. Close it before the pipeline.

    Args:
        pipe: prepares requests, and generates those alone that cannot share a batch.
        scheduler: of its decoder; None: requests take turns.
    """

    def __init__(self, pipe: GenerationPipeline, scheduler: Scheduler | None = None) -> None:
        self.batches = scheduler is not None  #: whether requests share a batch; else they take turns
        self._pipe, self._scheduler = pipe, scheduler
        self._turns = _Turns()
        self._batch = None if scheduler is None else _Batch(scheduler)
        self._preparing = _Preparing()
        self._open = 0  # requests whose on_done was not called
        self._closed = False
        self._reported: Counter[int] = Counter()
        self._lock = threading.Lock()
        loops = [loop for loop in (self._preparing, self._batch, self._turns) if loop is not None]
        self._finalizer = weakref.finalize(self, _close, loops)  # also at the end of the program

    def submit(
        self,
        item: Any,
        *,
        on_piece: OnPiece,
        on_done: OnDone,
        cancel: CancelToken | None = None,
        place: int = 0,
        **options: Any,
    ) -> None:
        """Queue a request and return at once.

        The callbacks are called in a thread of the generator, which computes no token meanwhile, so they must not wait
        for anything. An error that one raises ends its own request.

        Args:
            item: an input, as a call of the pipeline accepts it.
            on_piece: called with each piece of each of the ``num_return_sequences`` sequences.
            on_done: called once, at the end: with the sequences in order, or with the error of this request. A
                cancelled request has the text so far, with the finish reason ``cancelled``.
            cancel: ends the request within two steps; may be set from any thread.
            place: of the input among those of one call, which with a seed decides the random numbers it draws.
            options: see the pipeline's call; ``timeout`` includes the time in the queue.

        Raises:
            SessionError: the generator is closed.
        """
        submitted = time.monotonic()
        with self._lock:
            if self._closed:
                raise SessionError("this generator is closed", hint="Make another one with concurrent().")
            self._open += 1
            arguments = (item, options, cancel or CancelToken(), on_piece, on_done, place, submitted)
            self._preparing.put(lambda: self._prepare(*arguments))

    def stream(self, item: Any, *, cancel: CancelToken | None = None, **options: Any) -> TextStreamer:
        """Generate the answer to one input, in pieces; leaving or closing the stream ends the request.

        Unlike a stream of the pipeline, it is generated while nobody reads it, and its pieces are kept.

        Raises:
            UsageError: ``num_return_sequences`` is greater than 1, or an option is invalid.
        """
        if self._pipe.resolve(options).options.num_return_sequences > 1:
            raise UsageError("a stream is one text, and num_return_sequences is greater than 1", hint="Call generate.")
        replies: SimpleQueue[Piece | tuple[Generation, ...] | GpuxError] = SimpleQueue()
        token = (cancel or CancelToken()).child()
        self.submit(item, on_piece=replies.put, on_done=replies.put, cancel=token, **options)

        def pieces() -> Generator[str, None, Generation]:
            try:
                while True:
                    reply = replies.get()
                    if isinstance(reply, GpuxError):
                        raise reply
                    if not isinstance(reply, Piece):
                        return reply[0]
                    yield reply.text
            finally:
                token.cancel()

        return TextStreamer(pieces(), token)

    def generate(
        self, items: Sequence[Any], *, cancel: CancelToken | None = None, **options: Any
    ) -> list[tuple[Generation, ...]]:
        """Generate the answers to several inputs at the same time, and wait for them.

        Raises:
            GpuxError: of the first request that failed; the others are cancelled.
        """
        token = (cancel or CancelToken()).child()
        replies: SimpleQueue[tuple[int, tuple[Generation, ...] | GpuxError]] = SimpleQueue()

        def done(number: int) -> OnDone:
            return lambda result: replies.put((number, result))

        found: dict[int, tuple[Generation, ...]] = {}
        failed: GpuxError | None = None
        try:
            for number, item in enumerate(items):
                self.submit(item, on_piece=_ignore, on_done=done(number), cancel=token, place=number, **options)
            for _ in items:
                number, result = replies.get()
                if not isinstance(result, GpuxError):
                    found[number] = result
                elif failed is None:
                    failed = result
                    token.cancel()
        finally:
            token.cancel()
        if failed is not None:
            raise failed
        return [found[number] for number in range(len(items))]

    @property
    def stats(self) -> ConcurrentStats:
        """What it is doing now."""
        scheduler, turns = self._scheduler, self._turns
        with self._lock:
            sizes = Counter(turns.batch_sizes)
            if scheduler is not None:
                sizes.update(dict(scheduler.batch_sizes))
            fresh = {size: count - self._reported[size] for size, count in sizes.items()}
            self._reported = sizes
            running = turns.running + (0 if scheduler is None else scheduler.running)
            return ConcurrentStats(
                running=running,
                waiting=max(0, self._open - running),
                rows=turns.rows + (0 if scheduler is None else scheduler.rows),
                cache_bytes=0 if scheduler is None else scheduler.cache_bytes,
                prefix_bytes=0 if scheduler is None else scheduler.prefix_bytes,
                steps=turns.steps + (0 if scheduler is None else scheduler.steps),
                batch_sizes={size: count for size, count in sorted(fresh.items()) if count},
            )

    def close(self) -> None:
        """Cancel what waits and what runs, and free the cache. Every ``on_done`` has been called when it returns.

        May be called twice.
        """
        with self._lock:
            self._closed = True
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(
        self,
        item: Any,
        options: Mapping[str, Any],
        cancel: CancelToken,
        on_piece: OnPiece,
        on_done: OnDone,
        place: int,
        submitted: float,
    ) -> None:
        """Prepare a request and hand it to the thread that decodes it."""

        def done(result: tuple[Generation, ...] | GpuxError) -> None:
            with self._lock:
                self._open -= 1
            on_done(result)

        try:
            token = cancel.child()
            prepared = self._pipe.prepare(item, options, token, place=place)
            texts = Texts(prepared.request, self._pipe.tokenizer.backend)
            if self._scheduler is not None and self._batch is not None and shares_batch(prepared.request):
                answer = _Answer(texts, on_piece, done)
                self._batch.put(
                    self._scheduler.job(prepared.request, answer, reuse=prepared.reuse, submitted=submitted)
                )
            else:
                self._turns.put(_Turn(prepared, texts, on_piece, done, submitted, token))
        except Exception as error:  # noqa: BLE001 - the error of this request, for its own caller
            _call(done, as_ours(error))


class _Answer:
    """Turns the tokens of a job into pieces; see :class:`~gpux.runtime.generation.scheduler.job.Listener`."""

    def __init__(self, texts: Texts, on_piece: OnPiece, on_done: OnDone) -> None:
        self._texts, self._on_piece, self._on_done = texts, on_piece, on_done
        self.stops = texts.stops

    def emitted(self, emitted: Emitted) -> None:
        """Call ``on_piece`` if a piece is complete."""
        if piece := self._texts.take(emitted):
            self._on_piece(piece)

    def ended(self, result: Timings | GpuxError) -> None:
        """Call ``on_done``."""
        self._on_done(self._texts.generations(result) if isinstance(result, Timings) else result)


@dataclass(frozen=True, eq=False)
class _Turn:
    """A request that is generated alone."""

    prepared: Prepared
    texts: Texts
    on_piece: OnPiece
    on_done: OnDone
    submitted: float
    cancel: CancelToken

    def end(self, reason: FinishReason) -> None:
        """End it before its turn."""
        for number in range(self.prepared.request.sequences):
            if piece := self.texts.take(Emitted(number, None, None, reason)):
                self.on_piece(piece)
        self.on_done(self.texts.generations(Timings(queue=time.monotonic() - self.submitted)))


class _Loop:
    """A thread that is started with the first request; see the subclasses."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self.closed = False

    def _start(self) -> None:
        """Start the thread, or wake it; the caller holds the lock.

        Raises:
            SessionError: the loop is closed, and its thread may have ended.
        """
        if self.closed:
            raise SessionError("this generator is closed", hint="Make another one with concurrent().")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="gpux-generate", daemon=True)
            self._thread.start()
        self._changed.notify()

    def _run(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Cancel everything, and wait for the thread unless this is it."""
        with self._changed:
            self.closed = True
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()


class _Preparing(_Loop):
    """The thread that prepares requests."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[Callable[[], None]] = deque()

    def put(self, prepare: Callable[[], None]) -> None:
        """Queue a request."""
        with self._changed:
            self._start()
            self._waiting.append(prepare)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self.closed):
                    self._changed.wait()
                if not self._waiting:
                    return
                prepare = self._waiting.popleft()
            prepare()
            del prepare  # it refers to the generator, which may be forgotten while this thread waits


class _Batch(_Loop):
    """The thread that runs a scheduler."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._scheduler = scheduler
        self._arrived: deque[Job] = deque()

    def put(self, job: Job) -> None:
        """Queue a job."""
        with self._changed:
            self._start()
            self._arrived.append(job)

    def close(self) -> None:
        """Cancel all jobs and free the cache."""
        super().close()
        if self._thread is None:
            self._scheduler.close()

    def _run(self) -> None:
        scheduler, busy = self._scheduler, False
        while not self.closed:
            with self._changed:
                while not (busy or self._arrived or self.closed):
                    self._changed.wait()
                self._take()
            try:
                busy = scheduler.work()
            except Exception as error:  # noqa: BLE001 - a fault of the scheduler must not leave requests without an end
                scheduler.fail_all(error)
        self._take()
        scheduler.close()

    def _take(self) -> None:
        while self._arrived:
            self._scheduler.add(self._arrived.popleft())


class _Turns(_Loop):
    """The thread in which requests take turns."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[_Turn] = deque()
        self._current: _Turn | None = None
        self.running = self.rows = 0
        self.steps = 0
        self.batch_sizes: Counter[int] = Counter()

    def put(self, turn: _Turn) -> None:
        """Queue a request."""
        with self._changed:
            self._start()
            self._waiting.append(turn)

    def close(self) -> None:
        """Cancel all requests."""
        with self._changed:
            for turn in (*self._waiting, *([self._current] if self._current else [])):
                turn.cancel.cancel()
        super().close()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self.closed):
                    self._changed.wait()
                if not self._waiting:
                    return
                turn = self._current = self._waiting.popleft()
            if (reason := turn.prepared.request.interrupted()) is not None:
                _call(turn.end, reason)
            else:
                self._answer(turn)
            self._current = None
            del turn  # it refers to the generator, as above

    def _answer(self, turn: _Turn) -> None:
        begun = time.monotonic()
        request = turn.prepared.request
        self.running, self.rows = 1, request.sequences
        result: tuple[Generation, ...] | GpuxError
        try:
            found = self._written(turn)
            result = tuple(replace(one, timings=replace(one.timings, queue=begun - turn.submitted)) for one in found)
            steps = max((one.timings.steps for one in found), default=0)
            self.steps += steps
            self.batch_sizes[request.sequences] += steps
        except Exception as error:  # noqa: BLE001 - ends this request, and no other
            result = as_ours(error)
        self.running = self.rows = 0
        _call(turn.on_done, result)

    def _written(self, turn: _Turn) -> tuple[Generation, ...]:
        """Generate an answer; requests that are cancelled while they wait end after each piece."""
        writing = turn.prepared.write()
        try:
            while True:
                try:
                    piece = next(writing)
                except StopIteration as end:
                    found: tuple[Generation, ...] = end.value
                    return found
                turn.on_piece(piece)
                self._end_interrupted()
        finally:
            writing.close()

    def _end_interrupted(self) -> None:
        for turn in list(self._waiting):
            if (reason := turn.prepared.request.interrupted()) is not None:
                with self._changed:
                    self._waiting.remove(turn)
                _call(turn.end, reason)


def check_sizes(max_rows: int, cache_bytes: int | None, prefix_bytes: int | None) -> None:
    """Check the arguments of a generator.

    Raises:
        UsageError: one is negative, or ``max_rows`` is below 1.
    """
    sizes = (("max_rows", max_rows, 1), ("cache_bytes", cache_bytes, 0), ("prefix_bytes", prefix_bytes, 0))
    for name, size, least in sizes:
        if size is not None and size < least:
            raise UsageError(f"{name} is {size}", hint=f"It must be at least {least}.")


def batching(
    pipe: GenerationPipeline, decoder: Decoder, max_rows: int, cache_bytes: int | None, prefix_bytes: int | None
) -> ConcurrentGenerator:
    """A generator that batches if the decoder can; see :meth:`GenerationPipeline.concurrent`."""
    check_sizes(max_rows, cache_bytes, prefix_bytes)
    if not can_batch(decoder):
        return ConcurrentGenerator(pipe)
    cache = default_cache_bytes(decoder) if cache_bytes is None else cache_bytes
    kept = cache // 4 if prefix_bytes is None else prefix_bytes
    return ConcurrentGenerator(pipe, Scheduler(decoder, max_rows=max_rows, cache_bytes=cache, prefix_bytes=kept))


def default_cache_bytes(decoder: Decoder) -> int:
    """Bytes of the cache by default: half of the free memory, at least one row of the context, or 64 MB."""
    row = _LEAST_CACHE if decoder.limit is None else decoder.limit * decoder.bytes_per_token()
    return max(int((available_memory() or 0) * _SHARE), row)


def _close(loops: Sequence[_Loop]) -> None:
    for loop in loops:
        loop.close()


def _ignore(piece: Piece) -> None:
    """No pieces are wanted."""


def _call(callback: Callable[[Any], object], argument: Any) -> None:
    """Call a callback whose errors nobody can receive."""
    try:
        callback(argument)
    except Exception:
        log.exception("a callback of a request failed")
