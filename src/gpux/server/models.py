"""The models of a server: which are stored, which are loaded, and what may be unloaded for another one.

A model is *idle* when no request uses it and none waits for it. Only idle models that are not pinned are unloaded by
themselves: when their ``keep_alive`` has passed, or, the least recently used first, when another model needs their
memory. A model that loads holds a reservation of its estimated size.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from gpux.errors import (
    BusyError,
    DeadlineError,
    DoesNotFitError,
    GpuxError,
    InputError,
    ModelNotFoundError,
    OverloadedError,
    RunError,
    SlowReaderError,
    StorageError,
    UsageError,
    WorkerDiedError,
)
from gpux.model.tasks import canonical
from gpux.model.units import format_bytes
from gpux.model.variant import StoredModel
from gpux.server import context, memory
from gpux.server.cores import Cores
from gpux.server.events import Events
from gpux.server.names import Listed, Names
from gpux.server.observer import Observer
from gpux.server.pulls import Pulls, check_ref
from gpux.server.security.limits import check_request
from gpux.server.security.redaction import shown
from gpux.server.settings import ServerSettings
from gpux.server.state import Kept, StateFile
from gpux.server.stats import Stats
from gpux.server.workers.messages import Open
from gpux.server.workers.worker import ReaderLimits, Worker
from gpux.store import Store
from gpux.system.machine import available_memory, cpu_threads, memory_limit

log = logging.getLogger(__name__)

#: Seconds between two looks at the memory of loaded models.
LOOK = 10.0
#: Deaths within :data:`DEATHS_WITHIN` seconds after which a model stays down until it is loaded explicitly.
DEATHS = 3
DEATHS_WITHIN = 60.0
#: Seconds before a model that died is started again without a request; doubled with each death.
BACKOFF = 0.5
#: Seconds between two events of the progress of a load.
PROGRESS = 0.25
#: Most seconds for a client to wait, as an answer states it.
LONGEST_WAIT = 600.0
#: Seconds of ``keep_alive`` beyond which a model is kept for ever: a hundred years.
LONGEST_KEEP_ALIVE = 100 * 365 * 86400.0
#: Seconds between two records of a model's use in the store.
TOUCH = 60.0

#: ``waiting``: for memory; ``failed``: the last load failed; ``down``: its process died too often.
Phase = Literal["stored", "waiting", "loading", "loaded", "unloading", "failed", "down"]


@dataclass(eq=False)
class Loaded:
    """A model with its process."""

    name: str  #: the reference by which it is known: ``org/name:int4``
    model: StoredModel
    worker: Worker
    loaded_at: float  #: seconds since the epoch
    keep_alive: float  #: seconds without a request until it is unloaded; infinity: never
    pinned: bool = False
    used_at: float = field(default_factory=time.monotonic)
    answering: int = 0  #: leases
    waiting: int = 0  #: requests that wait for it
    load_seconds: float = 0.0
    unloading: bool = False

    @property
    def task(self) -> str:
        """The task that the worker runs."""
        return canonical(self.model.task)

    @property
    def memory_bytes(self) -> int:
        """Resident bytes of its process."""
        return self.worker.memory_bytes()

    @property
    def idle(self) -> bool:
        """Whether no request uses or awaits it; one whose client does not read its finished answer does not count."""
        return self.waiting == 0 and self.answering <= self.worker.stalled

    @property
    def expires_at(self) -> float | None:
        """Seconds since the epoch when it is unloaded unless a request comes; None: never."""
        if self.pinned or math.isinf(self.keep_alive):
            return None
        since = time.monotonic() if not self.idle else self.used_at
        return time.time() + since + self.keep_alive - time.monotonic()


@dataclass(frozen=True)
class ModelState:
    """What a model is doing."""

    name: str
    phase: Phase
    progress: float | None  #: of a load, between 0 and 1, by the memory of the process
    since: float  #: seconds since the epoch
    error: GpuxError | None  #: of the last load, or of the process's death
    requests: int  #: that wait or run
    memory_bytes: int
    pinned: bool
    preload: bool  #: named at the start
    loaded: Loaded | None
    model: StoredModel | None  #: None: a model of the start that is not stored


@dataclass(eq=False)
class _Slot:
    """One stored variant, in whatever state."""

    name: str
    model: StoredModel
    keep_alive: float
    pinned: bool = False
    device: str | int | None = None  #: of the next load; None: that of the settings
    keep_prompts: bool = True  #: of the next load; see :meth:`Models.lease`
    wanted: bool = False  #: named at the start: started again at once when it dies
    phase: Phase = "stored"
    since: float = field(default_factory=time.time)
    loaded: Loaded | None = None
    starting: Worker | None = None
    loading: asyncio.Task[None] | None = None
    closing: asyncio.Task[None] | None = None
    error: GpuxError | None = None
    deaths: deque[float] = field(default_factory=deque)
    pending: int = 0  #: leases that wait or run
    waiting: int = 0  #: callers that wait for the load
    reserved: int = 0  #: bytes, while it loads
    measured: int = 0  #: bytes of its process when it was last seen
    load_seconds: float = 0.0
    touched: float = float("-inf")

    def enter(self, phase: Phase) -> None:
        self.phase, self.since = phase, time.time()


class Models:
    """Finds, loads and unloads models. Used in one event loop.

    Args:
        settings: of the server.
        stats: counts what happens.
        events: hears of it.
        pulls: pulls models that requests name, where the settings allow that.
        observer: is given what the processes do.
    """

    def __init__(
        self,
        settings: ServerSettings,
        stats: Stats | None = None,
        events: Events | None = None,
        pulls: Pulls | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._settings = settings
        self._stats = stats or Stats()
        self._events = events or Events()
        self._pulls = pulls or Pulls(settings.gpux, self._stats, self._events)
        self._observer = observer or Observer()
        self._store = Store(settings.gpux.store)
        self._names = Names(settings.gpux.store)
        self._slots: dict[str, _Slot] = {}
        self._queue: deque[_Slot] = deque()  # loads that wait for memory, the first come first
        self._moved = asyncio.Event()  # memory may be free now
        self._due = asyncio.Event()  # the reaper has to look at once
        self._next_look = math.inf
        self._cores = Cores(lambda: [one.worker for one in self.loaded()])
        self._tasks: set[asyncio.Task[None]] = set()
        self._state: StateFile | None = None
        self._kept: list[Kept] = []  # of the last run, not loaded again yet
        self._preloads: dict[str, GpuxError | _Slot | None] = {}
        self._stopping: GpuxError | None = None
        self._limits = memory.Limits(settings.max_models, settings.max_memory)
        #: called with :meth:`open_folders` when they change
        self.on_open: Callable[[tuple[Path, ...]], None] = lambda folders: None
        self._open_before: tuple[Path, ...] = ()

    # What there is

    def stored(self) -> list[StoredModel]:
        """Every variant of the store."""
        return self._names.models()

    def listing(self) -> tuple[Listed, ...]:
        """Every stored model, one entry for each id, revision and precision; the default of each id first."""
        return self._names.listing()

    def loaded(self) -> list[Loaded]:
        """Every loaded model, the first loaded first."""
        return [slot.loaded for slot in self._slots.values() if slot.loaded is not None]

    def open_folders(self) -> tuple[Path, ...]:
        """The folders of the variants that processes have open: of the loaded models, and of those that load."""
        slots = self._slots.values()
        return tuple(one.model.path for one in slots if one.loaded is not None or one.phase == "loading")

    def states(self) -> list[ModelState]:
        """Every model that is loaded, loads, has failed and is still stored, or was named at the start."""
        shown = [slot for slot in self._slots.values() if slot.phase != "stored" and not _is_empty(slot)]
        found = [self._state_of(slot) for slot in shown]
        for name, preload in self._preloads.items():
            if not isinstance(preload, _Slot):
                phase: Phase = "waiting" if preload is None else "failed"
                found.append(ModelState(name, phase, None, 0.0, preload, 0, 0, False, True, None, None))
        return found

    def state(self, name: str) -> ModelState:
        """What one model is doing.

        Raises:
            ModelNotFoundError: it is not stored.
        """
        return self._state_of(self._slot(self.find(name)))

    def unready(self) -> dict[str, str]:
        """The models named at the start that have not been loaded, or died too often: name -> what is the matter."""
        found = {}
        for name, preload in self._preloads.items():
            if not isinstance(preload, _Slot):
                found[name] = _unready(preload)
            elif preload.phase == "down" or not preload.load_seconds:
                found[name] = _unready(preload.error)
        return found

    def queued(self) -> int:
        """Models that wait for memory."""
        return len(self._queue)

    def pending(self) -> dict[str, int]:
        """Requests that wait or run, by model."""
        return {slot.name: slot.pending for slot in self._slots.values() if slot.pending}

    def store_changed(self) -> None:
        """See at once what this process has changed in the store."""
        self._names.refresh()

    def find(self, name: str, tasks: Sequence[str] = ()) -> StoredModel:
        """The stored variant that a name stands for; see :meth:`Names.find`.

        Raises:
            ModelNotFoundError: it is not stored, or was removed.
            UnsupportedTaskError: it is stored for another task.
            CorruptFileError: it is damaged.
        """
        found = self._names.find(name, tasks)
        if not _is_removed(found):
            return found
        self._names.refresh()  # removed since the store was read
        return self._names.find(name, tasks)

    def listed(self, name: str) -> Listed:
        """The entry of the list for the variant that a name stands for. Safe to use from any thread.

        Raises:
            ModelNotFoundError, CorruptFileError: see :meth:`find`.
        """
        return self._names.listed(name)

    def get(self, name: str) -> StoredModel | None:
        """The stored variant that a name stands for, or None; for lists of many names. Safe to use from any thread."""
        return self._names.get(name)

    # What happens to them

    async def found(self, name: str, tasks: Sequence[str] = ()) -> StoredModel:
        """As :meth:`find`; a model that is not stored is pulled where the settings allow that.

        Raises:
            GpuxError: see :meth:`find`; it cannot be pulled.
        """
        try:
            return self.find(name, tasks)
        except ModelNotFoundError:
            if not self._settings.allow_pull or self._settings.gpux.offline:
                raise
            try:
                ref = check_ref(name)
            except GpuxError:
                ref = None
            if ref is None:
                raise
        job = await self._pulls.start(str(ref))
        await self._pulls.wait(job.id)
        return self.find(name, tasks)

    @asynccontextmanager
    async def lease(
        self,
        name: str,
        tasks: Sequence[str] = (),
        *,
        keep_alive: float | None = None,
        device: str | int | None = None,
        keep_prompts: bool = True,
    ) -> AsyncIterator[Loaded]:
        """A loaded model for one request; it is loaded first if it is not, and not unloaded within the block.

        Args:
            name: see :meth:`find`.
            tasks: tasks that the caller can use; empty: any.
            keep_alive: seconds after this request until the model is unloaded; 0: at once, negative or infinite: never.
            device: where the model is loaded, if it is not; None: by the settings.
            keep_prompts: whether it keeps the KV caches of ended answers for prompts that begin alike, if it is loaded.

        Raises:
            ModelNotFoundError, UnsupportedTaskError, CorruptFileError: see :meth:`find`; the first one also where the
                model is removed from the store before it has read what the request needs.
            BusyError: the model has ``max_queue`` requests.
            DoesNotFitError: the model is larger than the memory.
            OverloadedError: no memory became free, or the server is stopping.
            GpuxError: it cannot be pulled or loaded.
        """
        self._check_open()
        keep = None if keep_alive is None else checked_keep_alive(keep_alive)
        slot = self._slot(await self.found(name, tasks))
        self._admit(slot)
        slot.device, slot.keep_prompts = device, keep_prompts
        slot.pending += 1
        try:
            began = time.monotonic()
            loaded = await self._open(slot)
            if keep is not None:
                slot.keep_alive = loaded.keep_alive = keep
            loaded.answering += 1
            self._stats.granted(slot.name, time.monotonic() - began)
            if (request := context.current()) is not None:
                request.model = slot.name
            try:
                yield loaded
            except (asyncio.CancelledError, GeneratorExit):
                self._stats.cancelled[slot.name] += 1
                raise
            except DeadlineError:
                self._stats.deadlines[slot.name] += 1
                raise
            except SlowReaderError:
                self._stats.slow_readers[slot.name] += 1
                raise
            except (RunError, StorageError) as error:
                _raise_if_removed(slot, error)
                raise
            finally:
                loaded.answering -= 1
                loaded.used_at = time.monotonic()
                self._touch(slot)
                if loaded.used_at + loaded.keep_alive < self._next_look:
                    self._due.set()
        finally:
            slot.pending -= 1
            self._moved.set()

    async def load(
        self,
        name: str,
        tasks: Sequence[str] = (),
        *,
        keep_alive: float | None = None,
        pin: bool = False,
        device: str | int | None = None,
    ) -> Loaded:
        """Load a model, unless it is loaded; a model that is down is tried again.

        Args:
            name: see :meth:`find`.
            tasks: see :meth:`find`.
            keep_alive: see :meth:`lease`; None keeps what holds.
            pin: keep it until :meth:`unpin` or :meth:`unload`.
            device: see :meth:`lease`.

        Raises:
            GpuxError: see :meth:`lease`.
        """
        self._check_open()
        keep = None if keep_alive is None else checked_keep_alive(keep_alive)
        slot = self._slot(await self.found(name, tasks))
        slot.device = device
        loaded = await self._open(slot, explicit=True)
        if keep is not None:
            slot.keep_alive = loaded.keep_alive = keep
        loaded.used_at = time.monotonic()
        if pin:
            self._pin(slot)
        self._due.set()
        self._save()
        return loaded

    async def unload(self, name: str, *, force: bool = False) -> bool:
        """Unload a model after the requests that run, and end its pin; new requests load it again.

        Args:
            name: see :meth:`find`; or that of a loaded model which was removed from the store.
            force: end running requests with an error.

        Returns:
            False if it was not loaded.

        Raises:
            ModelNotFoundError: it is neither stored nor loaded.
        """
        try:
            slot = self._slot(self.find(name))
        except ModelNotFoundError:
            loaded = (one for one in self._slots.values() if one.name == name and one.loaded is not None)
            if (removed := next(loaded, None)) is None:
                raise
            slot = removed
        return await self._unload(slot, force=force)

    async def unload_all(self, *, force: bool = False) -> list[str]:
        """Unload every loaded model as :meth:`unload` does; their names."""
        slots = [slot for slot in self._slots.values() if slot.loaded is not None]
        done = await asyncio.gather(*(self._unload(slot, force=force) for slot in slots))
        return [slot.name for slot, was in zip(slots, done, strict=True) if was]

    async def _unload(self, slot: _Slot, *, force: bool) -> bool:
        slot.pinned = slot.wanted = False
        if slot.loading is not None:
            slot.loading.cancel()
            await asyncio.wait({slot.loading})
        if slot.loaded is None and slot.closing is None:
            slot.error = None
            slot.deaths.clear()
            slot.enter("stored")
            self._save()
            return False
        await asyncio.wait({self._begin_end(slot, "unloaded", 0.0 if force else self._settings.drain_timeout)})
        return True

    async def pin(self, name: str) -> Loaded:
        """Load a model and keep it until :meth:`unpin`; also after a death and a restart.

        Raises:
            GpuxError: see :meth:`load`.
        """
        return await self.load(name, pin=True)

    async def unpin(self, name: str) -> bool:
        """Let a model be unloaded again; False if it was not pinned.

        Raises:
            ModelNotFoundError: it is not stored.
        """
        slot = self._slot(self.find(name))
        pinned, slot.pinned = slot.pinned, False
        if slot.loaded is not None:
            slot.loaded.pinned = False
        if pinned:
            self._events.publish("unpinned", slot.name)
            self._changed()
            self._save()
        return pinned

    @property
    def limits(self) -> memory.Limits:
        """What the loaded models may take, without what is available on the machine."""
        return self._limits

    def limit(self, *, models: int | None = None, memory_bytes: int | None = None) -> None:
        """Set limits beside those of the settings, of which the smaller ones count; they replace those set before.

        Args:
            models: loaded at the same time; None: by the settings.
            memory_bytes: of all models together; None: by the settings.
        """
        settings = self._settings
        self._limits = memory.Limits(_least(settings.max_models, models), _least(settings.max_memory, memory_bytes))
        self._changed()

    # The server's start and end

    async def start(self) -> None:
        """Load the models of the settings, and those of the last run, in the background."""
        settings = self._settings
        self._preloads = dict.fromkeys(settings.models)
        self._spawn(self._reap())
        if settings.restore:
            self._state = StateFile(settings.gpux.home, settings.port)
            self._kept = self._state.read()
        if self._preloads or self._kept:
            self._spawn(self._preload())

    def stop_accepting(self) -> None:
        """Refuse new requests from now on."""
        self._stopping = OverloadedError(
            "the server is stopping", hint="Send the request again when it has started again.", retry_after=5.0
        )

    async def close(self) -> None:
        """End all processes; requests that run fail."""
        self.stop_accepting()
        self._cores.close()
        loads = [slot.loading for slot in self._slots.values() if slot.loading is not None]
        for task in (*self._tasks, *loads):
            task.cancel()
        await asyncio.gather(*self._tasks, *loads, return_exceptions=True)
        ends = [slot.closing for slot in self._slots.values() if slot.closing is not None]
        await asyncio.gather(
            *(one.worker.close(error=self._stopping) for one in self.loaded()), *ends, return_exceptions=True
        )
        for slot in self._slots.values():
            slot.loaded = None
        await self._pulls.close()
        if self._state is not None:
            self._state.close()

    # Loading

    def _slot(self, model: StoredModel) -> _Slot:
        key = str(model.path)
        slot = self._slots.get(key)
        if slot is None:
            for other in [path for path, one in self._slots.items() if _is_empty(one)]:
                del self._slots[other]
            slot = _Slot(self._names.name_of(model), model, checked_keep_alive(self._settings.keep_alive))
            self._slots[key] = slot
        return slot

    def _check_open(self) -> None:
        if self._stopping is not None:
            raise again(self._stopping)

    def _admit(self, slot: _Slot) -> None:
        if slot.pending < self._settings.max_queue:
            return
        self._stats.busy[slot.name] += 1
        raise BusyError(
            f"{slot.name} has {slot.pending} requests, as many as this server lets wait",
            hint="Send the request again later, or start the server with a larger --max-queue.",
            retry_after=self._wait_of(slot),
            model=slot.name,
        )

    def _wait_of(self, slot: _Slot) -> float:
        """Seconds until the requests of a model are answered, by the time that the last ones took."""
        worker = slot.loaded.worker if slot.loaded is not None else None
        service = worker.service if worker is not None and worker.service else 1.0
        rows = self._settings.max_rows if worker is not None and worker.info.batches else 1
        return min(LONGEST_WAIT, max(1.0, service * slot.pending / rows))

    async def _open(self, slot: _Slot, *, explicit: bool = False) -> Loaded:
        """The loaded model, which the caller leases before it awaits anything else."""
        self._count_waiting(slot, 1)
        try:
            if explicit and slot.phase == "down":
                slot.deaths.clear()
                slot.enter("stored")
            while True:
                self._check_open()
                if slot.closing is not None:
                    await asyncio.wait({slot.closing})
                elif slot.loaded is not None and slot.loaded.worker.alive:
                    return slot.loaded
                elif slot.phase == "down" and slot.error is not None:
                    raise again(slot.error)
                elif slot.loaded is not None:
                    await asyncio.sleep(0.01)  # its death is being noticed
                else:
                    await self._join(slot)
        finally:
            self._count_waiting(slot, -1)
            if slot.waiting == 0 and slot.loading is not None and slot.phase == "waiting" and not slot.wanted:
                slot.loading.cancel()  # nobody wants it any more, and nothing has been started

    async def _join(self, slot: _Slot) -> None:
        """Wait for the load that runs, or start it."""
        if slot.loading is None:
            slot.loading = asyncio.create_task(self._load(slot))
            slot.loading.add_done_callback(_retrieve)
        task = slot.loading
        await asyncio.wait({task})
        if task.cancelled():
            self._check_open()
            raise OverloadedError(f"the load of {slot.name} was cancelled", hint="Send the request again.")
        error = task.exception()
        if isinstance(error, GpuxError):
            raise again(error) from None
        if error is not None:
            raise error

    def _count_waiting(self, slot: _Slot, change: int) -> None:
        slot.waiting += change
        if slot.loaded is not None:
            slot.loaded.waiting = slot.waiting

    async def _load(self, slot: _Slot) -> None:
        slot.error = None
        slot.enter("waiting")
        try:
            await self._make_room(slot)
            try:
                await self._start(slot)
            except (RunError, StorageError) as error:
                _raise_if_removed(slot, error)
                raise
        except asyncio.CancelledError:
            slot.enter("stored")
            raise
        except GpuxError as error:
            slot.error = error
            slot.enter("failed")
            self._stats.load_failures[slot.name] += 1
            self._events.publish("load_failed", slot.name, error=error.to_dict())
            raise
        finally:
            slot.loading = slot.starting = None
            slot.reserved = 0
            self._changed()

    async def _start(self, slot: _Slot) -> None:
        began = time.monotonic()
        slot.enter("loading")
        self._events.publish("loading", slot.name, bytes=slot.reserved)
        self._report_open()
        _raise_if_removed(slot)
        settings = self._settings
        opening = Open(
            str(slot.model.path),
            slot.model.pipeline_task,
            settings.device if slot.device is None else slot.device,
            cpu_threads(),
            {
                "max_rows": settings.max_rows,
                "cache_bytes": settings.cache_bytes,
                "prefix_bytes": None if slot.keep_prompts else 0,
                "batch_wait": settings.batch_wait,
                "max_pixels": settings.max_pixels,
                "max_frames": settings.max_frames,
                "max_seconds": settings.max_seconds,
            },
        )
        folder = slot.model.path.parent
        file = f"{folder.parent.name}--{folder.name[:12]}--{slot.model.path.name}.log"
        worker = await Worker.launch(
            opening,
            slot.name,
            log=settings.gpux.home / "logs" / "server" / file,
            timeout=settings.request_timeout,
            limits=ReaderLimits(settings.reader_pieces, seconds=settings.reader_seconds),
            observer=self._observer,
            check=lambda request: check_request(request, settings),
        )
        slot.starting = worker
        progress = asyncio.create_task(self._report_progress(slot))
        try:
            async with asyncio.timeout(None if math.isinf(settings.open_timeout) else settings.open_timeout):
                await worker.ready()
        except TimeoutError:
            raise DeadlineError(
                f"{slot.name} was not open within {settings.open_timeout:g} s",
                hint="Open it with `gpux run` on the server's machine, or give the server a longer --open-timeout.",
                model=slot.name,
                should_retry=False,
            ) from None
        finally:
            progress.cancel()
        slot.load_seconds = time.monotonic() - began
        slot.loaded = Loaded(slot.name, slot.model, worker, time.time(), slot.keep_alive, slot.pinned)
        slot.loaded.waiting = slot.waiting
        slot.loaded.load_seconds = slot.load_seconds
        slot.measured = worker.memory_bytes()
        slot.enter("loaded")
        worker.on_busy = self._cores.changed
        self._spawn(self._watch(slot, slot.loaded))
        self._touch(slot)
        self._stats.loads[slot.name] += 1
        seconds = self._stats.load_seconds
        seconds[slot.name] = seconds.get(slot.name, 0.0) + slot.load_seconds
        self._events.publish("loaded", slot.name, seconds=slot.load_seconds, bytes=slot.measured)
        self._due.set()
        self._save()

    async def _report_progress(self, slot: _Slot) -> None:
        while True:
            await asyncio.sleep(PROGRESS)
            self._events.publish("progress", slot.name, progress=_progress(slot))

    async def _watch(self, slot: _Slot, loaded: Loaded) -> None:
        """Notice the end of a process that nobody ended."""
        error = await loaded.worker.ended()
        if loaded.worker.closing:
            return
        now = time.monotonic()
        slot.loaded = None
        slot.deaths.append(now)
        while slot.deaths[0] < now - DEATHS_WITHIN:
            slot.deaths.popleft()
        self._stats.deaths[slot.name] += 1
        log.warning("%s", error.message)
        self._events.publish("died", slot.name, error=error.to_dict())
        slot.error = error
        slot.enter("failed")
        if len(slot.deaths) >= DEATHS:
            slot.error = _down(slot, error)
            slot.enter("down")
            self._events.publish("down", slot.name, error=slot.error.to_dict())
        elif slot.pinned or slot.wanted:
            self._spawn(self._restart(slot, BACKOFF * 2 ** (len(slot.deaths) - 1)))
        self._changed()
        self._save()

    async def _restart(self, slot: _Slot, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if slot.loaded is not None or not (slot.pinned or slot.wanted):
            return
        self._stats.restarts[slot.name] += 1
        try:
            await self._open(slot)
        except GpuxError as error:
            log.warning("%s was not started again: %s", slot.name, error.message)

    async def _preload(self) -> None:
        """Load the models of the settings, then those of the last run, one after the other."""
        for name in list(self._preloads):
            try:
                slot = self._slot(await self.found(name, ()))
                self._preloads[name] = slot
                slot.wanted, slot.keep_alive = True, math.inf
                await self._open(slot)
            except GpuxError as error:
                if not isinstance(self._preloads[name], _Slot):
                    log.error("%s was not loaded: %s", name, error.message)  # noqa: TRY400 - its reason is known
                    self._preloads[name] = error
        for kept in list(self._kept):
            try:
                await self._restore(kept)
            except GpuxError as error:
                log.warning("%s was not loaded again: %s", kept.name, error.message)
            self._kept.remove(kept)
        self._save()

    async def _restore(self, kept: Kept) -> None:
        model = next((one for one in self._names.models() if str(one.path) == kept.path), None)
        if model is None:
            return
        slot = self._slot(model)
        if not slot.wanted:
            slot.keep_alive = math.inf if kept.keep_alive is None else kept.keep_alive
        slot.pinned = kept.pinned
        await self._open(slot)

    # Memory

    async def _make_room(self, slot: _Slot) -> None:
        """Reserve memory for a model, and unload others for it where that is needed.

        Raises:
            DoesNotFitError: it is larger than what there can be.
            OverloadedError: none became free in time, or too many models wait.
        """
        needed = slot.measured or memory.estimate(slot.model, self._settings.cache_bytes)
        self._refuse_too_large(slot, needed)
        if len(self._queue) >= self._settings.max_loads:
            raise self._overloaded(slot, f"{len(self._queue)} models wait for memory already")
        self._queue.append(slot)
        deadline = time.monotonic() + self._settings.load_timeout
        announced = False
        try:
            while self._queue[0] is not slot or not await self._try_room(slot, needed):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise self._overloaded(slot, f"no memory became free for {slot.name} within the server's limit")
                if not announced:
                    announced = True
                    self._events.publish("waiting", slot.name, bytes=needed)
                await self._wait_for_move(min(left, 1.0))
        finally:
            self._queue.remove(slot)
            self._changed()

    async def _wait_for_move(self, seconds: float) -> None:
        self._moved.clear()
        try:
            async with asyncio.timeout(seconds):  # memory of other programs becomes free without notice
                await self._moved.wait()
        except TimeoutError:
            return

    def _overloaded(self, slot: _Slot, message: str) -> OverloadedError:
        self._stats.overloaded += 1
        waits = [self._wait_of(one) for one in self._slots.values() if one.pending and one.loaded is not None]
        hint = "Send the request again later; `gpux ps` shows what is loaded, and `gpux unload` unloads it."
        return OverloadedError(message, hint=hint, retry_after=min(waits, default=5.0), model=slot.name)

    def _refuse_too_large(self, slot: _Slot, needed: int) -> None:
        limits = [limit for limit in (self._limits.memory, memory_limit()) if limit is not None]
        if limits and needed > min(limits):
            raise DoesNotFitError(
                f"{slot.name} needs about {format_bytes(needed)}, and this server has {format_bytes(min(limits))}",
                hint="Use a smaller precision, such as :int4, or raise --max-memory where that is the limit.",
                needed=needed,
                limit=min(limits),
                model=slot.name,
            )

    async def _try_room(self, slot: _Slot, needed: int) -> bool:
        limits = replace(self._limits, available=available_memory())
        victims = memory.victims(needed, self._held(), limits)
        if victims is None:
            return False
        slot.reserved = needed  # counted for every other load from here on
        ends = [self._begin_end(victim, "evicted", 0.0) for victim in victims]
        if ends:
            await asyncio.wait(ends)
        return True

    def _held(self) -> list[memory.Held[_Slot]]:
        """The models that take memory."""
        held = []
        for slot in self._slots.values():
            if slot.loaded is None and not slot.reserved:
                continue
            measured = self._measured(slot)
            used_at = slot.loaded.used_at if slot.loaded is not None else 0.0
            growth = max(0, slot.reserved - measured)
            held.append(memory.Held(slot, max(slot.reserved, measured), self._is_evictable(slot), used_at, growth))
        return held

    def _is_evictable(self, slot: _Slot) -> bool:
        loaded = slot.loaded
        return loaded is not None and slot.closing is None and loaded.idle and not slot.pinned

    def _measured(self, slot: _Slot) -> int:
        worker = slot.loaded.worker if slot.loaded is not None else slot.starting
        return worker.memory_bytes() if worker is not None else 0

    # Unloading

    def _begin_end(self, slot: _Slot, why: Literal["unloaded", "evicted"], patience: float) -> asyncio.Task[None]:
        """End the process of a loaded model; callers that come from now on wait for it and load the model again."""
        if slot.closing is None:
            assert slot.loaded is not None
            slot.closing = asyncio.create_task(self._close(slot, slot.loaded, why, patience))
        return slot.closing

    async def _close(self, slot: _Slot, loaded: Loaded, why: str, patience: float) -> None:
        slot.enter("unloading")
        loaded.unloading = True
        self._events.publish("unloading", slot.name, reason=why)
        slot.measured = max(slot.measured, loaded.worker.memory_bytes())
        try:
            deadline = time.monotonic() + patience
            while loaded.answering > loaded.worker.stalled and time.monotonic() < deadline:
                await self._wait_for_move(min(0.5, max(0.0, deadline - time.monotonic())))
            await loaded.worker.close(
                error=OverloadedError(f"{slot.name} was unloaded", hint="Send the request again.", retry_after=1.0)
            )
        finally:
            if slot.loaded is loaded:
                slot.loaded = None
            slot.closing = None
            slot.error = None
            slot.enter("stored")
            self._stats.unloads[slot.name] += 1
            if why == "evicted":
                self._stats.evictions[slot.name] += 1
            self._events.publish(why, slot.name)
            self._changed()
            self._save()

    async def _reap(self) -> None:
        """Unload models whose time has passed, that were removed from the store, or that have grown too large."""
        while True:
            self._due.clear()
            for slot in list(self._slots.values()):
                if slot.loaded is not None:
                    self._look_at_the_store(slot)
                if self._is_expired(slot):
                    self._begin_end(slot, "unloaded", 0.0)
            self._shrink()
            times = [one.used_at + one.keep_alive for one in self.loaded() if one.idle and not one.pinned]
            self._next_look = min([*times, time.monotonic() + LOOK]) if self.loaded() else math.inf
            seconds = None if math.isinf(self._next_look) else max(0.01, self._next_look - time.monotonic())
            try:
                async with asyncio.timeout(seconds):
                    await self._due.wait()
            except TimeoutError:
                continue

    def _look_at_the_store(self, slot: _Slot) -> None:
        """Count a loaded model as used, so that pulls evict others first; end the pin of one that was removed."""
        if not _is_removed(slot.model):
            self._touch(slot)
        elif slot.pinned or slot.wanted:
            slot.pinned = slot.wanted = False
            if slot.loaded is not None:
                slot.loaded.pinned = False
            self._events.publish("unpinned", slot.name)
            self._save()

    def _is_expired(self, slot: _Slot) -> bool:
        loaded = slot.loaded
        if loaded is None or not self._is_evictable(slot):
            return False
        return time.monotonic() >= loaded.used_at + loaded.keep_alive or _is_removed(slot.model)

    def _shrink(self) -> None:
        """Unload idle models while there are more than allowed: KV caches grow in use, and limits change."""
        if self._limits.memory is not None:
            for slot in memory.surplus(self._staying(), self._limits.memory):
                self._begin_end(slot, "evicted", 0.0)
        if self._limits.models is not None:
            for slot in memory.in_excess(self._staying(), self._limits.models):
                self._begin_end(slot, "evicted", 0.0)

    def _staying(self) -> list[memory.Held[_Slot]]:
        """The models that take memory and are not unloaded already, which frees theirs."""
        return [one for one in self._held() if one.key.closing is None]

    # Bookkeeping

    def _pin(self, slot: _Slot) -> None:
        slot.pinned = True
        if slot.loaded is not None:
            slot.loaded.pinned = True
        self._events.publish("pinned", slot.name)

    def _touch(self, slot: _Slot) -> None:
        now = time.monotonic()
        if now - slot.touched > TOUCH:
            slot.touched = now
            self._store.touch(slot.model)

    def _changed(self) -> None:
        """Memory may be free, or a time may have passed."""
        self._moved.set()
        self._due.set()
        self._report_open()

    def _report_open(self) -> None:
        folders = self.open_folders()
        if folders != self._open_before:
            self._open_before = folders
            self.on_open(folders)

    def _save(self) -> None:
        """Record what is loaded."""
        if self._state is None or self._stopping is not None:
            return
        kept = [
            Kept(str(slot.model.path), slot.name, None if math.isinf(slot.keep_alive) else slot.keep_alive, slot.pinned)
            for slot in self._slots.values()
            if slot.loaded is not None or slot.pinned
        ]
        paths = {one.path for one in kept}
        self._state.write([*kept, *(one for one in self._kept if one.path not in paths)])

    def _state_of(self, slot: _Slot) -> ModelState:
        return ModelState(
            slot.name,
            slot.phase,
            _progress(slot) if slot.phase == "loading" else None,
            slot.since,
            slot.error,
            slot.pending,
            self._measured(slot),
            slot.pinned,
            slot.wanted,
            slot.loaded,
            slot.model,
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


def checked_keep_alive(seconds: float) -> float:
    """Seconds as :class:`Loaded` has them: negative ones, and those that no calendar has, mean infinity.

    Raises:
        UsageError: it is not a number.
    """
    if math.isnan(seconds):
        raise UsageError("keep_alive is not a number", param="keep_alive")
    return math.inf if seconds < 0 or seconds > LONGEST_KEEP_ALIVE else seconds


def again(error: GpuxError) -> GpuxError:
    """A copy of an error that several callers get, each with a traceback of its own."""
    return type(error)(error.message, hint=error.hint, **error.details)


def _retrieve(task: asyncio.Task[None]) -> None:
    """Take the error of a task for which all waiters have left, so that asyncio does not report it."""
    if not task.cancelled():
        task.exception()


def _is_removed(model: StoredModel) -> bool:
    """Whether a model is no longer in the store; False also where the disk does not say it now."""
    try:
        model.path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # of a network, or since permissions are being changed
        return False
    return False


def _raise_if_removed(slot: _Slot, error: GpuxError | None = None) -> None:
    """Raise that the model was removed from the store, which is then the reason of an error that is not of an input.

    Raises:
        ModelNotFoundError: it was.
    """
    if not isinstance(error, InputError) and _is_removed(slot.model):
        hint = f"`gpux pull {slot.name}` stores it again."
        raise ModelNotFoundError(
            f"the model {slot.name!r} was removed from the store", hint=hint, model=slot.name
        ) from error


def _is_empty(slot: _Slot) -> bool:
    """Whether nothing is known of a slot but that its model was removed from the store."""
    busy = slot.loaded or slot.loading or slot.closing or slot.pending or slot.waiting
    return not busy and not slot.pinned and not slot.wanted and _is_removed(slot.model)


def _progress(slot: _Slot) -> float:
    """How far a load is, by the memory of its process."""
    if slot.starting is None or not slot.reserved:
        return 0.0
    return min(0.99, slot.starting.memory_bytes() / slot.reserved)


def _down(slot: _Slot, error: WorkerDiedError) -> WorkerDiedError:
    return WorkerDiedError(
        f"the process of {slot.name} has died {len(slot.deaths)} times within a minute, and is not started again",
        hint=f"Run `gpux load {slot.name}` to try again. The server's log folder has its output.",
        exit_status=error.details.get("exit_status"),
        should_retry=False,
    )


def _unready(error: GpuxError | None) -> str:
    return "is not loaded yet" if error is None else f"could not be loaded: {shown(error).message}"
