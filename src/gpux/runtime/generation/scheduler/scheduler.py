"""The scheduler: between two steps of all rows, at most one piece of the waiting prompts is read.

For graphs with GroupQueryAttention, which write new keys and values in place and read rows of different lengths that
are padded on the right. The rows that are decoded have the first slots of the cache; the prompt that is read has one
behind them, and is bound there as a batch of one. When a row leaves, the last one takes its slot.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gpux.errors import CacheMemoryError, GpuxError, RunError, UnsupportedError, UsageError
from gpux.runtime.generation.choose.row import Emitted, Row
from gpux.runtime.generation.choose.sampling import check_best
from gpux.runtime.generation.engine.decoder import LEAST, Decoder
from gpux.runtime.generation.engine.state import Ids, Scores
from gpux.runtime.generation.loops.request import DecodeRequest
from gpux.runtime.generation.results import FinishReason
from gpux.runtime.generation.scheduler.job import Job, Listener
from gpux.runtime.generation.scheduler.prefixes import Prefixes, shared
from gpux.runtime.generation.scheduler.slots import Slots

log = logging.getLogger(__name__)

#: A piece of a prompt counts as this many tokens at least: a call reads every weight, however few its tokens are.
LEAST_PIECE = 64


def can_batch(decoder: Decoder) -> bool:
    """Whether rows can join and leave a batch of this decoder."""
    return decoder.shares and decoder.call_spec.chunks_after_cache and decoder.most_rows is None


def shares_batch(request: DecodeRequest) -> bool:
    """Whether a request can be decoded token by token in a batch with others."""
    return request.options.num_beams == 1 and not request.options.prompt_lookup_tokens


@dataclass(eq=False)
class _Active:
    """A row that is decoded; its place in the list is its slot."""

    job: Job
    row: Row
    length: int  #: tokens in the cache


@dataclass(eq=False)
class _Reading:
    """The prompt that is read."""

    job: Job
    slot: int
    done: int  #: tokens in the cache


class Scheduler:
    """Decodes jobs in one batch. Call it from one thread; :meth:`job` and the attributes may be used from any.

    Args:
        decoder: one of which :func:`can_batch` is true.
        max_rows: sequences that are decoded at once; a single request with more is decoded alone.
        cache_bytes: bytes of the cache of all sequences at most.
        prefix_bytes: bytes of what is kept of ended answers at most, besides.

    Raises:
        UnsupportedError: the decoder cannot batch.
    """

    def __init__(self, decoder: Decoder, *, max_rows: int, cache_bytes: int, prefix_bytes: int) -> None:
        if not can_batch(decoder):
            raise UnsupportedError(
                "rows cannot join a batch of this graph, whose cache is not written in place",
                hint="Let requests take turns.",
            )
        self._decoder = decoder
        self._max_rows, self._cache_bytes = max_rows, cache_bytes
        self._slots = Slots(decoder.tensors, decoder.session.device)
        self._prefixes = Prefixes(prefix_bytes)
        self._reader, self._stepper = decoder.caller(), decoder.caller()
        self._waiting: deque[Job] = deque()
        self._reading: _Reading | None = None
        self._active: list[_Active] = []
        self._jobs: list[Job] = []  # those of the active rows
        self._refused: Job | None = None  # the first waiting job, if it did not fit and no row has left since
        self.steps = 0  #: decoding steps since the start
        self.batch_sizes: Counter[int] = Counter()  #: sequences of a step -> number of steps

    @property
    def rows(self) -> int:
        """Sequences that are decoded."""
        return len(self._active)

    @property
    def waiting(self) -> int:
        """Jobs whose prompts are not read yet."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Jobs that are read or decoded."""
        return len(self._jobs) + (self._reading is not None)

    @property
    def cache_bytes(self) -> int:
        """Bytes of the cache."""
        return self._slots.nbytes

    @property
    def prefix_bytes(self) -> int:
        """Bytes of what is kept of ended answers."""
        return self._prefixes.nbytes

    def job(self, request: DecodeRequest, listener: Listener, *, reuse: bool = True, submitted: float) -> Job:
        """A job for :meth:`add`.

        Args:
            request: with one prompt.
            listener: is informed of its tokens.
            reuse: whether it may begin with kept tokens, and its own are kept.
            submitted: when it began to wait, in seconds of ``time.monotonic()``.

        Raises:
            CacheMemoryError: it would not fit into the cache alone.
            ContextLengthError, InputError: the prompt is empty, or leaves no room for an answer.
            UsageError: the request has several prompts, or cannot share a batch.
        """
        if len(request.prompts) != 1 or not shares_batch(request):
            raise UsageError("a job has one prompt, without beams and without prompt_lookup_tokens")
        rows = request.rows(self._decoder.limit)
        capacity = len(request.prompts[0]) + max(row.room for row in rows)
        needed = len(rows) * capacity * self._slots.unit
        if needed > self._cache_bytes:
            raise CacheMemoryError(
                f"the key-value cache of this request would take {needed / 1e6:,.0f} MB, and "
                f"{self._cache_bytes / 1e6:,.0f} MB are allowed",
                hint="Shorten the prompt, lower max_new_tokens, or raise cache_bytes.",
                needed=needed,
                available=self._cache_bytes,
            )
        return Job(request, listener, rows, capacity, reuse, submitted)

    def add(self, job: Job) -> None:
        """Let a job wait for its turn."""
        self._waiting.append(job)

    def work(self) -> bool:
        """End what was cancelled, read at most one piece of the prompts, and decode one step.

        Returns:
            Whether there is more to do.
        """
        self._end_interrupted()
        self._read()
        if self._active:
            self._step()
        return bool(self._active or self._reading or self._waiting)

    def fail_all(self, error: Exception) -> None:
        """End every job with an error."""
        reading = [] if self._reading is None else [self._reading.job]
        self._reading = None
        for job in [*self._jobs, *reading, *self._waiting]:
            self._fail(job, error)
        self._waiting.clear()

    def close(self) -> None:
        """End every job as ``cancelled``, and release the memory."""
        self._end_all("cancelled")
        self._prefixes.clear()
        self._slots.close()
        self._reader.close()
        self._stepper.close()

    # Reading

    def _read(self) -> None:
        """Read pieces of prompts, of :attr:`Caller.tokens` tokens together; short prompts are read together."""
        budget = most = self._reader.tokens
        while budget > 0:
            if self._reading is None:
                self._reading = self._begin()
            reading = self._reading
            if reading is None:
                return
            size = min(most, reading.job.prompt.size - reading.done)
            if size > budget:
                return
            budget -= max(size, LEAST_PIECE)
            try:
                scores = self._read_piece(reading, size)
            except Exception as error:  # noqa: BLE001 - ends this job, and no other
                self._reading = None
                self._fail(reading.job, error)
                continue
            if reading.done == reading.job.prompt.size:
                self._reading = None
                self._join(reading, scores)

    def _begin(self) -> _Reading | None:
        """Give the first waiting job a slot, and what is kept of its prompt; None: it has to wait."""
        while self._waiting and self._waiting[0] is not self._refused:
            job = self._waiting[0]
            try:
                if not self._fit(job):
                    self._refused = job
                    return None
                self._waiting.popleft()
                job.begun = time.monotonic()
                reading = _Reading(job, len(self._active), 0)
                if job.reuse:
                    reading.done = job.reused = self._begin_with_kept(job, reading.slot)
                return reading
            except CacheMemoryError as error:
                if self._active:  # the memory of others may be free later
                    self._refused = job
                    return None
                self._waiting.popleft()
                self._fail(job, error)
        return None

    def _fit(self, job: Job) -> bool:
        """Arrange slots for a job besides the active rows; False: there is no room now."""
        count = len(self._active) + len(job.rows)
        if self._active and count > self._max_rows:
            return False
        needed = max(job.capacity, *(active.job.capacity for active in self._active), 0)
        slots = self._slots
        if count <= slots.count and needed <= slots.capacity:
            return True
        limit = self._decoder.limit or needed
        roomy = max(needed, min(bucket(needed), limit))
        coming = sum(len(one.rows) for one in self._waiting) + len(self._active)
        most = max(count, min(self._max_rows, 1 << (coming - 1).bit_length()), slots.count)
        for size, capacity in ((most, max(roomy, slots.capacity)), (most, roomy), (count, roomy), (count, needed)):
            if size * capacity * slots.unit <= self._cache_bytes:
                slots.arrange(size, capacity, {slot: active.length for slot, active in enumerate(self._active)})
                self._stepper.prepared = False
                return True
        return False

    def _begin_with_kept(self, job: Job, slot: int) -> int:
        """Copy the longest known beginning of the prompt to its slot, kept or of an active row; returns its length."""
        prompt = job.prompt
        length, kept = self._prefixes.best(prompt)
        here = [
            (shared(active.row.ids[: active.length], prompt), place)
            for place, active in enumerate(self._active)
            if active.job.reuse
        ]
        most, place = max(here, default=(0, 0))
        if max(length, most) < LEAST:
            return 0
        if most >= length:
            self._slots.copy(place, [slot], most)
            return most
        assert kept is not None
        self._slots.write(slot, kept.arrays, length)
        return length

    def _read_piece(self, reading: _Reading, size: int) -> Scores:
        """Read the next tokens of a prompt; returns the scores after the last, ``[1, vocabulary]``."""
        done = reading.done
        ids = reading.job.prompt[None, done : done + size]
        self._slots.bind(self._reader.binding, reading.slot, 1)
        scores = self._reader.call(ids, self._reader.ones(1, done + size), np.arange(done, done + size)[None], keep=1)
        reading.done += size
        return np.asarray(scores[:, 0])

    def _join(self, reading: _Reading, scores: Scores) -> None:
        """Make the sequences of a prompt that was read active, and choose their first tokens."""
        job, first, length = reading.job, len(self._active), reading.done
        places = range(first, first + len(job.rows))
        self._slots.copy(reading.slot, places, length)
        self._active += [_Active(job, row, length) for row in job.rows]
        self._jobs.append(job)
        self._stepper.prepared = False
        self._choose(places, np.broadcast_to(scores, (len(places), scores.shape[1])))

    # Decoding

    def _step(self) -> None:
        """Decode one token of every active row."""
        active, stepper = self._active, self._stepper
        lengths: Ids = np.array([one.length for one in active], np.int64)
        tokens: Ids = np.array([one.row.last for one in active], np.int64)
        width = int(lengths.max()) + 1
        self._decoder.session.count()
        try:
            if self._slots.moves or not stepper.prepared:
                self._slots.bind(stepper.binding, 0, len(active))
            even = int(lengths.min()) + 1 == width
            mask = width if even else (np.arange(width) <= lengths[:, None]).astype(np.int64)
            scores = stepper.step(tokens, mask, lengths)
        except Exception as error:  # noqa: BLE001 - the graph cannot run: every row fails
            for job in list(self._jobs):
                self._fail(job, error)
            return
        self.steps += 1
        self.batch_sizes[len(active)] += 1
        for one in active:
            one.length += 1
        for job in self._jobs:
            job.steps += 1
        self._choose(range(len(active)), scores)

    def _choose(self, places: Sequence[int], scores: Scores) -> None:
        """Choose the next tokens of these rows, by ``scores`` of each; rows that end leave."""
        left: list[int] = []
        failed: list[tuple[Job, Exception]] = []
        rows = [self._active[place] for place in places]
        best: list[int] = scores.argmax(axis=1).tolist() if any(one.row.greedy for one in rows) else []
        for number, one in enumerate(rows):
            job, row = one.job, one.row
            if job.ended:
                continue
            try:
                if row.greedy:
                    token = best[number]
                    check_best(scores[number, token])
                else:
                    token = row.choose(scores[number])
                emitted = row.take(token, scores[number], job.listener.stops)
                job.first = job.first or time.monotonic()
                job.listener.emitted(emitted)
            except Exception as error:  # noqa: BLE001 - a sampler, a constraint or a listener ends its own job alone
                job.ended = True
                failed.append((job, error))
            else:
                if emitted.finish is not None:
                    left.append(places[number])
        self._leave(left)
        for job, raised in failed:
            job.ended = False
            self._fail(job, raised)

    def _leave(self, places: Iterable[int]) -> None:
        """Rows that ended leave; their tokens are kept, and the last rows take their slots."""
        for place in sorted(places, reverse=True):
            one = self._active[place]
            if one.job.reuse and one.row.number == 0:
                self._keep(place, one)
            self._remove(place)
            if not one.job.open:
                self._end(one.job)

    def _keep(self, place: int, one: _Active) -> None:
        nbytes = one.length * self._slots.unit
        self._prefixes.keep(one.row.ids[: one.length], nbytes, lambda: self._slots.read(place, one.length))

    def _remove(self, place: int) -> None:
        job = self._active[place].job
        last = self._active.pop()
        if place < len(self._active):
            self._slots.copy(len(self._active), [place], last.length)
            self._active[place] = last
        job.open -= 1
        if not job.open:
            self._jobs.remove(job)
        self._stepper.prepared = False
        self._refused = None

    # Ends

    def _end_interrupted(self) -> None:
        """End the jobs that were cancelled, or are past their deadline."""
        for job in [job for job in self._waiting if job.request.interrupted()]:
            self._waiting.remove(job)
            self._end_waiting(job, job.request.interrupted() or "cancelled")
        if self._reading is not None and (reason := self._reading.job.request.interrupted()):
            job, self._reading = self._reading.job, None
            self._end_waiting(job, reason)
        for job in list(self._jobs):
            if reason := job.request.interrupted():
                self._end_active(job, reason)

    def _end_all(self, reason: FinishReason) -> None:
        for job in self._waiting:
            self._end_waiting(job, reason)
        self._waiting.clear()
        if self._reading is not None:
            job, self._reading = self._reading.job, None
            self._end_waiting(job, reason)
        for job in list(self._jobs):
            self._end_active(job, reason)

    def _end_waiting(self, job: Job, reason: FinishReason) -> None:
        """End a job whose sequences have no tokens yet."""
        self._refused = None
        if self._emit_ends(job, job.rows, reason):
            self._end(job)

    def _end_active(self, job: Job, reason: FinishReason) -> None:
        places = [place for place, one in enumerate(self._active) if one.job is job]
        if self._emit_ends(job, [self._active[place].row for place in places], reason):
            self._leave(places)

    def _emit_ends(self, job: Job, rows: Iterable[Row], reason: FinishReason) -> bool:
        try:
            for row in rows:
                job.listener.emitted(Emitted(row.number, None, None, reason))
        except Exception as error:  # noqa: BLE001 - of the listener
            self._fail(job, error)
            return False
        return True

    def _fail(self, job: Job, error: Exception) -> None:
        """End a job with an error; its rows leave."""
        for place in reversed([place for place, one in enumerate(self._active) if one.job is job]):
            self._remove(place)
        self._end(job, error)

    def _end(self, job: Job, error: Exception | None = None) -> None:
        if job.ended:
            return
        job.ended = True
        try:
            job.listener.ended(job.timings() if error is None else as_ours(error))
        except Exception:
            log.exception("a listener failed at the end of its job")


def as_ours(error: Exception) -> GpuxError:
    """An error of gpux, for one that a constraint, a processor or a listener raised."""
    if isinstance(error, GpuxError):
        return error
    log.error("a request ended with an unexpected error", exc_info=error)
    found = RunError(
        f"the answer ended with {type(error).__name__}: {error}", hint="The log has the place where it was raised."
    )
    found.__cause__ = error
    return found


def bucket(tokens: int) -> int:
    """A capacity for so many tokens that a slightly longer request has room in: at most a quarter more."""
    step = max(64, 1 << max(0, tokens.bit_length() - 3))
    return -(-tokens // step) * step
