"""The models of a server: which are stored, which are loaded, and what may be unloaded for another one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gpux.errors import ModelNotFoundError, UnsupportedTaskError
from gpux.model.reference import ModelRef
from gpux.model.tasks import canonical
from gpux.model.variant import StoredModel
from gpux.server import context
from gpux.server.observer import Observer
from gpux.server.settings import ServerSettings
from gpux.server.workers.messages import Open
from gpux.server.workers.worker import Worker
from gpux.store import Store
from gpux.system.machine import cpu_threads


@dataclass
class Loaded:
    """A model with its process."""

    name: str  #: the reference by which it is known: ``org/name:int4``
    model: StoredModel
    worker: Worker
    loaded_at: float  #: seconds since the epoch
    keep_alive: float  #: seconds without a request until it is unloaded
    pinned: bool = False
    used_at: float = field(default_factory=time.monotonic)
    answering: int = 0  #: leases

    @property
    def task(self) -> str:
        """The task that the worker runs."""
        return canonical(self.model.task)


class Models:
    """Finds, loads and unloads models. Used in one event loop."""

    def __init__(self, settings: ServerSettings, observer: Observer) -> None:
        self._settings = settings
        self._observer = observer
        self._store = Store(settings.gpux.store)
        self._loaded: dict[str, Loaded] = {}
        self._lock = asyncio.Lock()

    def stored(self) -> list[StoredModel]:
        """Every variant of the store."""
        return self._store.models()

    def loaded(self) -> list[Loaded]:
        """Every loaded model."""
        return list(self._loaded.values())

    def find(self, name: str, tasks: Sequence[str] = ()) -> StoredModel:
        """The stored variant that a name stands for.

        Args:
            name: a reference, or the id of a stored local model.
            tasks: tasks that the caller can use; empty: any.

        Raises:
            ModelNotFoundError: it is not stored.
            UnsupportedTaskError: it is stored for another task.
        """
        found = self._store.find_ref(ModelRef.parse(name))
        if found is None:
            raise ModelNotFoundError(
                f"the model {name!r} is not stored on this server",
                hint=f"Run `gpux pull {name}`, or start the server with --allow-pull.",
                model=name,
            )
        if tasks and canonical(found.task) not in tasks:
            raise UnsupportedTaskError(
                f"the model {name!r} is stored for {found.task}, and this request needs {' or '.join(tasks)}",
                hint="Name a model of that task.",
                model=name,
            )
        return found

    @asynccontextmanager
    async def lease(
        self, name: str, tasks: Sequence[str] = (), *, keep_alive: float | None = None
    ) -> AsyncIterator[Loaded]:
        """A loaded model for one request; it is loaded first if it is not, and not unloaded within the block.

        Raises:
            ModelNotFoundError, UnsupportedTaskError: see :meth:`find`.
            GpuxError: it cannot be loaded.
        """
        loaded = await self.load(name, tasks)
        if keep_alive is not None:
            loaded.keep_alive = keep_alive
        loaded.answering += 1
        if (request := context.current()) is not None:
            request.model = loaded.name
        try:
            yield loaded
        finally:
            loaded.answering -= 1
            loaded.used_at = time.monotonic()

    async def load(self, name: str, tasks: Sequence[str] = ()) -> Loaded:
        """Load a model, unless it is loaded.

        Raises:
            GpuxError: it cannot be loaded.
        """
        model = self.find(name, tasks)
        async with self._lock:
            key = str(model.path)
            if (found := self._loaded.get(key)) is not None and found.worker.alive:
                return found
            opening = Open(
                str(model.path),
                canonical(model.task),
                self._settings.device,
                cpu_threads(),
                {
                    "max_rows": self._settings.max_rows,
                    "cache_bytes": self._settings.cache_bytes,
                    "batch_wait": self._settings.batch_wait,
                },
            )
            log = self._settings.gpux.home / "logs" / "server" / f"{model.path.parent.name}.log"
            worker = await Worker.start(opening, name, log=log, observer=self._observer)
            loaded = Loaded(name, model, worker, time.time(), self._settings.keep_alive)
            self._loaded[key] = loaded
            return loaded

    async def unload(self, name: str) -> bool:
        """Unload a model; False if it was not loaded."""
        model = self.find(name)
        loaded = self._loaded.pop(str(model.path), None)
        if loaded is not None:
            await loaded.worker.close()
        return loaded is not None

    async def close(self) -> None:
        """Unload all models."""
        loaded, self._loaded = self._loaded, {}
        await asyncio.gather(*(one.worker.close() for one in loaded.values()))
