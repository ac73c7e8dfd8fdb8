"""Batches that are shared by requests: what arrives while a batch runs is in the next one.

A request prepares its inputs in a thread of its own and waits in :meth:`Batcher.run` for their outputs, as a pipeline's
``runner``; answers are made from outputs by each request again, so that requests with different options share a batch.

Rows are chosen in the order of requests, some rows of each in a round, up to a window of some batches. A window is
sorted by size, so that little is padded. Small requests thus end in their order, and one that arrives beside a request
with thousands of texts waits for one window.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpux.errors import CancelledError
from gpux.pipelines.base import Forward, Pipeline
from gpux.pipelines.batching import plan
from gpux.runtime.session import Session
from gpux.server.workers.account import Account, current

#: Batches of one window for each of the runs at once.
_WINDOW = 4
#: Rows of one request until it is the turn of the next one.
_ROUND = 32
#: Seconds for which the number of requests of the last batch says how many to expect.
_RECENT = 0.05


@dataclass(eq=False)
class _Job:
    """The rows of one call that wait for their outputs."""

    pipeline: Pipeline
    rows: Sequence[Any]
    forward: Forward
    batch_size: int | None
    sizes: list[int]
    account: Account | None
    arrived: float
    found: list[Any]
    left: deque[int]  #: places of the rows that are in no window yet, largest first
    missing: int
    done: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None
    started: float | None = None
    shared: int = 1  #: requests of the last batch

    @property
    def key(self) -> Hashable:
        """Rows of jobs with equal keys may share a batch."""
        return self.forward, self.batch_size, self.pipeline.shared_by(self.rows[0])

    def fail(self, error: BaseException) -> None:
        """End without outputs."""
        if not self.done.is_set():
            self.error = error
            self.left.clear()
            self.done.set()


@dataclass
class _Batch:
    places: list[tuple[_Job, int]]
    units: int  #: padding included
    session: Session
    runs: int  #: batches at once at most
    full: bool  #: large enough to run beside another one


class Batcher:
    """Runs the rows of many requests in shared batches.

    Args:
        pipeline: the model's, for its sessions; rows may be of other pipelines with the same graphs.
        wait: seconds that a batch waits for requests that are expected, while nothing runs.
        cores: logical processors of this process.
        changed: called when a batch begins, with the requests in it and its rows, and with zeros when it has ended.
        hands: the threads that may prepare inputs and make answers at the same time; given back while one waits.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        wait: float,
        cores: int,
        changed: Callable[[int, int], None],
        hands: threading.Semaphore,
    ) -> None:
        self._pipeline, self._wait, self._report, self._hands = pipeline, wait, changed, hands
        self.cores = cores
        self._coming: set[Account] = set()  #: requests that are being prepared
        self._changed = threading.Condition()
        self._waiting: dict[Hashable, deque[_Job]] = {}
        self._units = 0  #: of all rows that are in no window
        self._batches: deque[_Batch] = deque()
        self._running = 0
        self._last, self._last_end = 1, 0.0  #: requests of the last window, and when a batch ended
        self._crowded = 0  #: units that ran while others waited
        self._closed = False
        threads = max(2, pipeline.session.threads)
        self._threads = [threading.Thread(target=self._loop, name="batches", daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def run(self, pipeline: Pipeline, rows: Sequence[Any], forward: Forward, batch_size: int | None) -> Sequence[Any]:
        """The output of each row, in order; see :attr:`gpux.Pipeline.runner`.

        Raises:
            CancelledError: the request was cancelled.
            GpuxError: what running these rows alone raises.
        """
        account = current()
        if not rows:
            return []
        sizes = [pipeline.size(row) for row in rows]
        order = deque(sorted(range(len(rows)), key=sizes.__getitem__, reverse=True))
        now = time.monotonic()
        job = _Job(pipeline, rows, forward, batch_size, sizes, account, now, [None] * len(rows), order, len(rows))
        if account is not None:
            account.tokens += _tokens(rows)
            account.job = job
            account.cancel.check()
        with self._changed:
            if self._closed:
                raise CancelledError("the model is being unloaded", hint="Send the request again.")
            if account is not None:
                self._coming.discard(account)
            self._waiting.setdefault(job.key, deque()).append(job)
            self._units += sum(sizes)
            self._changed.notify()
        self._hands.release()
        try:
            job.done.wait()
        finally:
            self._hands.acquire()
        if account is not None:
            ended = time.monotonic()
            started = ended if job.started is None else job.started
            account.timing.queue += started - now
            account.timing.run += ended - started
            account.timing.batch = job.shared
        if job.error is not None:
            raise job.error
        return job.found

    def cancel(self, account: Account) -> None:
        """Drop what a request has in the queue; a batch that runs ends, and its outputs are dropped."""
        job = account.job
        if job is None:
            return
        with self._changed:
            self._units -= sum(job.sizes[place] for place in job.left)
            job.fail(CancelledError("the request was cancelled"))

    def close(self) -> None:
        """Cancel what waits, and wait for the batches that run."""
        with self._changed:
            self._closed = True
            for jobs in self._waiting.values():
                for job in jobs:
                    job.fail(CancelledError("the model is being unloaded", hint="Send the request again."))
            for batch in self._batches:
                for job, _ in batch.places:
                    job.fail(CancelledError("the model is being unloaded", hint="Send the request again."))
            self._waiting.clear()
            self._batches.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def expect(self, account: Account) -> None:
        """Note that a request is being prepared, so that a batch may wait for it."""
        with self._changed:
            self._coming.add(account)

    def forget(self, account: Account) -> None:
        """Note that a request has ended."""
        with self._changed:
            if account in self._coming:
                self._coming.discard(account)
                self._changed.notify()

    # -- the threads that run batches

    def _loop(self) -> None:
        while (batch := self._next()) is not None:
            self._report(len({job for job, _ in batch.places}), len(batch.places))
            self._run(batch)
            with self._changed:
                self._running -= 1
                self._last_end = time.monotonic()
                self._changed.notify()
            self._report(0, 0)

    def _next(self) -> _Batch | None:
        """The next batch, when there is one that may run; None when the batcher is closed."""
        with self._changed:
            while not self._closed:
                delay = None
                if not self._batches and self._waiting:
                    delay = self._delay() if self._running == 0 else 0.0
                    if delay <= 0:
                        self._window()
                        delay = None
                if self._batches and self._may_run(self._batches[0]):
                    self._running += 1
                    if self._batches or self._waiting:
                        self._changed.notify()
                    return self._batches.popleft()
                self._changed.wait(delay)
            return None

    def _may_run(self, batch: _Batch) -> bool:
        return self._running == 0 or (self._running < batch.runs and (batch.full or len(self._batches) > 1))

    def _delay(self) -> float:
        """Seconds that the waiting rows may still wait for others; only called while nothing runs."""
        jobs = [job for queue in self._waiting.values() for job in queue if not job.done.is_set()]
        if not jobs or self._wait <= 0:
            return 0.0
        now = time.monotonic()
        recent = now - self._last_end < _RECENT
        expected = bool(self._coming) or (recent and len(jobs) < self._last)
        _, _, budget = self._place(self._units)
        if not expected or self._units >= budget:
            return 0.0
        return min(job.arrived for job in jobs) + self._wait - now

    def _window(self) -> None:
        """Make batches of rows of the requests that wait longest and of those that may share with them."""
        session, runs, budget = self._place(self._units)
        key = min(self._waiting, key=lambda key: self._waiting[key][0].arrived)
        jobs = self._waiting.pop(key)
        chosen: list[tuple[_Job, int]] = []
        used: set[_Job] = set()
        units, room = 0, _WINDOW * budget * runs
        while jobs and units < room:
            job = jobs.popleft()
            taken = 0
            while job.left and taken < _ROUND and units < room:
                place = job.left.popleft()
                chosen.append((job, place))
                used.add(job)
                units += job.sizes[place]
                taken += 1
            if job.left and taken < _ROUND:
                jobs.appendleft(job)  # the window is full
            elif job.left:
                job.arrived = time.monotonic()  # after those that came since, with this key or another
                jobs.append(job)
        self._units -= units
        if jobs:
            self._waiting[key] = jobs
        if not chosen:
            return
        self._last = len(used)
        sizes = [job.sizes[place] for job, place in chosen]
        for places in plan(sizes, budget, chosen[0][0].batch_size):
            batch = [chosen[place] for place in places]
            padded = sizes[places[0]] * len(places)
            self._batches.append(_Batch(batch, padded, session, runs, session.threads == 1 or 2 * padded >= budget))
        if len(self._batches) > 1 or self._waiting:
            self._crowded += units

    def _place(self, units: int) -> tuple[Session, int, int]:
        """The session for so many units, batches at once, and units of one batch; see ``Pipeline.concurrency``.

        A session of one thread for each run is opened when it pays, which many small requests show only together; and
        when other models take cores, see ``use_cores`` of :mod:`gpux.server.workers.program`.
        """
        first, threads = self._pipeline.budget.one_thread_from, self._pipeline.session.threads
        if first is not None and (self._crowded >= first * threads or self.cores < threads):
            units = max(units, first * threads)
        session, runs, budget = self._pipeline.concurrency(units)
        return session, max(1, min(runs, self.cores)), budget

    def _run(self, batch: _Batch) -> None:
        """Run a batch; where that fails, each of its requests alone, so that an error ends only those that cause it."""
        started = time.monotonic()
        parts: dict[_Job, list[int]] = {}
        for job, place in batch.places:
            if not job.done.is_set():
                parts.setdefault(job, []).append(place)
        for job in parts:
            job.shared = len(parts)
            if job.account is not None:
                job.account.waits = False
            job.started = job.started or started
        rows = [(job, place) for job, places in parts.items() for place in places]
        if not rows:
            return
        try:
            outputs = rows[0][0].forward([job.rows[place] for job, place in rows], batch.session)
            for (job, place), output in zip(rows, outputs, strict=True):
                job.found[place] = output
        except Exception as error:  # noqa: BLE001 - of any library below
            if len(parts) == 1:
                self._failed(rows[0][0], error)
            else:
                for job, places in parts.items():
                    self._run_alone(job, places, batch.session)
            return
        self._ended(parts)

    def _run_alone(self, job: _Job, places: list[int], session: Session) -> None:
        try:
            for place, output in zip(places, job.forward([job.rows[place] for place in places], session), strict=True):
                job.found[place] = output
        except Exception as error:  # noqa: BLE001 - of any library below
            self._failed(job, error)
        else:
            self._ended({job: places})

    def _failed(self, job: _Job, error: BaseException) -> None:
        with self._changed:
            self._units -= sum(job.sizes[place] for place in job.left)
            job.fail(error)

    def _ended(self, parts: dict[_Job, list[int]]) -> None:
        with self._changed:  # several batches of a request may end at once
            for job, places in parts.items():
                job.missing -= len(places)
                if job.missing == 0:
                    job.done.set()


def _tokens(rows: Sequence[Any]) -> int:
    """Tokens of rows that are texts."""
    return sum(len(row.ids) for row in rows if hasattr(row, "ids"))
