"""Real worker processes on the models of :mod:`tests.server.running`, and the same models opened in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from gpux import pipeline
from gpux.model.reference import ModelRef
from gpux.model.variant import StoredModel
from gpux.pipelines.base import Pipeline
from gpux.server.workers.messages import Open
from gpux.server.workers.worker import Worker
from gpux.store import Store
from gpux.system.settings import Settings
from tests.server.running import CLASSIFIER, EMBEDDER

#: A long wait for requests that are expected, so that those at the same time share batches on a slow machine too.
SETTINGS = {"max_rows": 8, "cache_bytes": None, "batch_wait": 0.25}


@asynccontextmanager
async def started(model: StoredModel, *, task: str | None = None, **settings: Any) -> AsyncIterator[Worker]:
    """A worker with a model; closed at the end of the block."""
    opening = Open(str(model.path), task or model.task, "cpu", 2, {**SETTINGS, **settings})
    worker = await Worker.launch(opening, model.id, log=model.path.parent.with_suffix(".log"))
    await worker.ready()
    try:
        yield worker
    finally:
        await worker.close()


class Shared:
    """A worker that several tests use, in an event loop of its own."""

    def __init__(self, model: StoredModel) -> None:
        self.model = model
        self._loop = asyncio.new_event_loop()
        self._context = started(model)
        self.worker = self._loop.run_until_complete(self._context.__aenter__())

    def run(self, work: Callable[[Worker], Awaitable[Any]]) -> Any:
        """The result of a function of the worker."""
        return self._loop.run_until_complete(work(self.worker))

    def ask(self, *requests: Any) -> list[Any]:
        """The last reply to each request, sent at once; errors in their places."""

        async def work(worker: Worker) -> list[Any]:
            process = psutil.Process(worker.pid)
            process.suspend()  # until the requests are in the pipe, so that it reads them together
            try:
                asked = asyncio.gather(*(worker.ask(one) for one in requests), return_exceptions=True)
                await asyncio.sleep(0.05 if len(requests) > 1 else 0)
            finally:
                process.resume()
            return await asked

        found: list[Any] = self.run(work)
        return found

    def close(self) -> None:
        self._loop.run_until_complete(self._context.__aexit__(None, None, None))
        self._loop.close()


def stored_model(home: Path, id: str) -> StoredModel:
    """A model of the store below a home folder."""
    settings = Settings.from_env({"GPUX_HOME": str(home), "HF_HOME": str(home / "hf")})
    found = Store(settings.store).find_ref(ModelRef.parse(id))
    assert found is not None
    return found


@pytest.fixture(scope="session")
def embedder(filled_home: Path) -> Iterator[Shared]:
    shared = Shared(stored_model(filled_home, EMBEDDER))
    yield shared
    shared.close()


@pytest.fixture(scope="session")
def classifier(filled_home: Path) -> Iterator[Shared]:
    shared = Shared(stored_model(filled_home, CLASSIFIER))
    yield shared
    shared.close()


@pytest.fixture
def embed(embedder: Shared) -> Iterator[Any]:
    with pipeline("feature-extraction", embedder.model, device="cpu") as pipe:
        yield pipe


@pytest.fixture
def classify(classifier: Shared) -> Iterator[Pipeline]:
    with pipeline("text-classification", classifier.model, device="cpu") as pipe:
        yield pipe
