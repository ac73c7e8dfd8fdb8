"""Models in real worker processes: one load for many requests, what is unloaded and what never, deaths."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from gpux.errors import (
    BusyError,
    DeadlineError,
    DoesNotFitError,
    GpuxError,
    ModelNotFoundError,
    OverloadedError,
    UsageError,
    WorkerDiedError,
)
from gpux.server import models as module
from gpux.server.models import Loaded, Models
from gpux.server.settings import ServerSettings
from gpux.server.stats import Stats
from gpux.server.workers.messages import Embed, Generate
from gpux.store import Store
from gpux.system import files
from gpux.system.settings import Settings
from tests.server.running import CLASSIFIER, EMBEDDER, MASKS, WRITER
from tests.server.test_names import put
from tests.waiting import until

Scenario = Callable[[Models], Awaitable[None]]


def settings_of(home: Path, **changes: Any) -> ServerSettings:
    gpux = Settings.from_env({"GPUX_HOME": str(home), "HF_HOME": str(home / "hf")})
    return ServerSettings(port=0, gpux=gpux, **changes)


def play(home: Path, scenario: Scenario, **changes: Any) -> Stats:
    """Run a scenario on models of a home folder, and end all processes."""
    stats = Stats()

    async def whole() -> None:
        models = Models(settings_of(home, **changes), stats)
        await models.start()
        try:
            await scenario(models)
        finally:
            await models.close()
        await until(lambda: len(asyncio.all_tasks()) == 1)  # nothing is left behind

    asyncio.run(whole())
    return stats


def spawn(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.get_running_loop().create_task(work)


def names(models: Models) -> set[str]:
    return {one.name for one in models.loaded()}


def phase(models: Models, name: str) -> str:
    return models.state(name).phase


def test_requests_share_a_load_and_a_bounded_queue_and_the_process_ends_after_the_last(filled_home: Path) -> None:
    async def scenario(models: Models) -> None:
        release, holding, pids = asyncio.Event(), 0, set()

        async def request(keep_alive: float) -> None:
            nonlocal holding
            async with models.lease(EMBEDDER, keep_alive=keep_alive) as loaded:
                holding += 1
                pids.add(loaded.worker.pid)
                await release.wait()

        requests = [spawn(request(math.inf)) for _ in range(3)]
        await until(lambda: phase(models, EMBEDDER) == "loading")
        with pytest.raises(BusyError) as caught:
            await request(0)
        assert caught.value.details["retry_after"] >= 1
        await until(lambda: holding == 3)
        assert len(pids) == 1 and models.pending() == {EMBEDDER: 3}
        release.set()
        await asyncio.gather(*requests)
        assert names(models) == {EMBEDDER}
        used = models.loaded()[0].memory_bytes
        assert used > 10 << 20
        await request(0)
        await until(lambda: phase(models, EMBEDDER) == "stored")
        assert not models.loaded() and not psutil.pid_exists(pids.pop())

    stats = play(filled_home, scenario, max_queue=3)
    assert (stats.loads[EMBEDDER], stats.unloads[EMBEDDER], stats.busy[EMBEDDER]) == (1, 1, 1)


def test_the_least_recently_used_idle_model_is_unloaded_for_another_and_no_other_one(filled_home: Path) -> None:
    async def scenario(models: Models) -> None:
        await asyncio.gather(models.load(MASKS), models.load(CLASSIFIER))
        async with models.lease(MASKS):
            pass
        await models.load(EMBEDDER)
        assert names(models) == {MASKS, EMBEDDER}
        await models.pin(MASKS)
        async with models.lease(EMBEDDER):
            with pytest.raises(OverloadedError) as caught:  # pinned, and in use
                await models.load(CLASSIFIER)
            assert caught.value.details["retry_after"] > 0
            object.__setattr__(models._settings, "load_timeout", math.inf)
            waiting = spawn(models.load(CLASSIFIER))
            await until(lambda: models.queued() == 1)
            assert names(models) == {MASKS, EMBEDDER}
        await waiting
        assert names(models) == {MASKS, CLASSIFIER}

    stats = play(filled_home, scenario, max_models=2, load_timeout=0.2)
    assert stats.evictions == {CLASSIFIER: 1, EMBEDDER: 1}
    assert stats.overloaded >= 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGSTOP")
def test_a_model_whose_process_ends_slowly_does_not_cost_another_one_its_place(filled_home: Path) -> None:
    async def scenario(models: Models) -> None:
        for id in (EMBEDDER, CLASSIFIER, MASKS):
            await models.load(id, keep_alive=math.inf)
        first = models.loaded()[0]
        psutil.Process(first.worker.pid).suspend()  # so that it does not end by itself
        limit = sum(one.memory_bytes for one in models.loaded()) - (first.memory_bytes // 2)
        for _ in range(3):  # each is a reason to look at the memory again
            models.limit(memory_bytes=limit)
            await until(lambda: phase(models, EMBEDDER) == "unloading")
            for _ in range(10):
                await asyncio.sleep(0)
        assert {phase(models, CLASSIFIER), phase(models, MASKS)} == {"loaded"}
        await until(lambda: phase(models, EMBEDDER) == "stored")
        assert names(models) == {CLASSIFIER, MASKS}

    play(filled_home, scenario)


def test_a_model_that_never_fits_is_refused_with_its_size(filled_home: Path) -> None:
    async def scenario(models: Models) -> None:
        with pytest.raises(DoesNotFitError, match=r"needs about \d.*MB, and this server has \d.*MB") as caught:
            await models.load(EMBEDDER)
        assert caught.value.details["needed"] > caught.value.details["limit"] == 50 << 20
        assert phase(models, EMBEDDER) == "failed"

    assert play(filled_home, scenario, max_memory=50 << 20).load_failures[EMBEDDER] == 1


def test_a_failed_load_gives_its_error_to_everyone_who_waits_and_is_tried_again(tmp_path: Path) -> None:
    put(tmp_path / "store", "org/broken")

    async def scenario(models: Models) -> None:
        async def request() -> None:
            async with models.lease("org/broken"):
                raise AssertionError

        await until(lambda: phase(models, "org/broken") == "failed")  # the load of the start
        assert models.unready() == {"org/broken": "could not be loaded: onnxruntime failed to run the model"}
        errors = await asyncio.gather(request(), request(), return_exceptions=True)
        assert all(isinstance(error, GpuxError) for error in errors)
        assert errors[0] is not errors[1] and str(errors[0]) == str(errors[1])
        assert phase(models, "org/broken") == "failed" and not models.pending()
        with pytest.raises(GpuxError):
            await request()

    assert play(tmp_path, scenario, models=("org/broken",)).load_failures["org/broken"] == 3


def test_a_load_that_hangs_is_ended_with_its_process_and_can_be_tried_again(filled_home: Path) -> None:
    async def scenario(models: Models) -> None:
        slot = models._slot(models.find(EMBEDDER))
        loads = [spawn(models.load(EMBEDDER)) for _ in range(2)]
        await until(lambda: slot.starting is not None)
        pid = slot.starting.pid if slot.starting is not None else 0
        os.kill(pid, signal.SIGSTOP)
        for load in loads:
            with pytest.raises(DeadlineError, match=r"tests/embedder was not open within 0\.5 s") as caught:
                await load
        assert "--open-timeout" in (caught.value.hint or "")
        assert phase(models, EMBEDDER) == "failed" and not psutil.pid_exists(pid)
        object.__setattr__(models._settings, "open_timeout", math.inf)
        await models.load(EMBEDDER)
        assert phase(models, EMBEDDER) == "loaded"

    stats = play(filled_home, scenario, open_timeout=0.5)
    assert (stats.load_failures[EMBEDDER], stats.loads[EMBEDDER]) == (1, 1)


def test_a_process_that_dies_ends_its_requests_and_comes_back_until_it_died_too_often(
    filled_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKOFF", 0.0)

    async def die(models: Models, loaded: Loaded) -> None:
        os.kill(loaded.worker.pid, signal.SIGKILL)
        await until(lambda: loaded not in models.loaded())

    async def scenario(models: Models) -> None:
        async with models.lease(EMBEDDER) as loaded:
            os.kill(loaded.worker.pid, signal.SIGSTOP)
            request = spawn(loaded.worker.ask(Embed(0, ["a"], {})))
            await until(lambda: loaded.worker.requests == 1)
            await die(models, loaded)
            with pytest.raises(WorkerDiedError, match="was killed by signal 9") as caught:
                await request
            assert caught.value.details == {"exit_status": -9, "should_retry": True}
            assert "memory" in (caught.value.hint or "")
        async with models.lease(EMBEDDER) as again:  # the next request starts it anew
            assert (await again.worker.ask(Embed(0, ["a"], {}))).vectors.shape[0] == 1
        await models.pin(EMBEDDER)
        await die(models, again)
        await until(lambda: names(models) == {EMBEDDER})  # pinned: without a request
        assert models.loaded()[0].pinned
        await die(models, models.loaded()[0])
        assert phase(models, EMBEDDER) == "down"
        with pytest.raises(WorkerDiedError, match="died 3 times") as caught:
            await models.lease(EMBEDDER).__aenter__()
        assert caught.value.details["should_retry"] is False and "gpux load" in (caught.value.hint or "")
        await models.load(EMBEDDER)
        assert phase(models, EMBEDDER) == "loaded"

    stats = play(filled_home, scenario)
    assert (stats.deaths[EMBEDDER], stats.restarts[EMBEDDER], stats.loads[EMBEDDER]) == (3, 1, 4)


def test_a_late_answer_and_an_unread_one_end_their_request_alone(filled_home: Path) -> None:
    request = {"max_new_tokens": 24}

    async def scenario(models: Models) -> None:
        async with models.lease(WRITER) as loaded:
            worker = loaded.worker
            slow = worker.replies(Generate(0, ["abc"], request))
            await anext(slow)
            await until(lambda: worker.slow_readers == 1)
            assert loaded.idle  # whoever does not read does not keep the model either
            whole = await worker.ask(Generate(0, ["abc"], request))
            assert whole.sequences[0].tokens == 24
            with pytest.raises(GpuxError, match="did not read its answer in time"):
                [piece async for piece in slow]
            worker.timeout = 0.05
            os.kill(worker.pid, signal.SIGSTOP)
            with pytest.raises(GpuxError, match="not complete within"):
                async with models.lease(WRITER):
                    await worker.ask(Generate(0, ["abc"], request))
            os.kill(worker.pid, signal.SIGCONT)
            await until(lambda: worker.requests == 0)  # it was cancelled
            cores = sorted(psutil.Process().cpu_affinity())
            worker.use_cores(cores[:1])
            await until(lambda: psutil.Process(worker.pid).cpu_affinity() == cores[:1])
            assert not loaded.idle

    assert play(filled_home, scenario, reader_pieces=2, reader_seconds=0.05).deadlines == {WRITER: 1}


def test_a_loaded_model_counts_as_used_and_ends_when_it_is_removed_although_it_is_pinned(
    filled_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK", 0.05)
    monkeypatch.setattr(module, "TOUCH", 0.0)
    home = Path(shutil.copytree(filled_home, tmp_path / "own", symlinks=True))
    store = Store(settings_of(home).gpux.store)

    async def scenario(models: Models) -> None:
        loaded = await models.pin(EMBEDDER)
        other = models.find(CLASSIFIER)
        store.touch(other)
        for one in (loaded.model, other):
            os.utime(one.path.with_name(one.path.name + ".used"), (1.0, 1.0))
        await until(lambda: store.last_used(loaded.model) > store.last_used(other))
        total = sum(files.size_of(one.path) for one in store.models())
        assert loaded.model.path not in {one.path for one in store.eviction_plan(total - 1).removals}
        store.removal_plan([loaded.model]).execute()  # as gpux rm in another process
        await until(lambda: not models.loaded())
        with pytest.raises(ModelNotFoundError):
            await models.load(EMBEDDER)

    assert play(home, scenario).unloads == {EMBEDDER: 1}


def test_a_keep_alive_is_a_number_and_a_huge_one_is_for_ever(filled_home: Path) -> None:
    async def scenario(models: Models) -> None:
        with pytest.raises(UsageError):
            await models.load(EMBEDDER, keep_alive=math.nan)
        for seconds in (2e16, -1, math.inf):
            loaded = await models.load(EMBEDDER, keep_alive=seconds)
            assert (loaded.keep_alive, loaded.expires_at) == (math.inf, None)
        assert (await models.load(EMBEDDER, keep_alive=60.0)).expires_at is not None

    play(filled_home, scenario, keep_alive=1e300)


def test_a_store_that_cannot_be_read_for_a_while_is_not_an_empty_one(filled_home: Path) -> None:
    async def scenario(models: Models) -> None:
        await models.load(EMBEDDER)
        stored = models.find(EMBEDDER)
        [loaded] = models.loaded()
        unreadable = replace(stored, path=stored.path / ("x" * 300))  # an error other than that it is not there
        with pytest.raises(OSError, match="too long"):
            unreadable.path.stat()
        slot = models._slot(stored)
        slot.model = unreadable
        models.limit()  # a reason to look at the store
        for _ in range(10):
            await asyncio.sleep(0)
        assert models.loaded() == [loaded]
        slot.model = stored
        await models.load(EMBEDDER, keep_alive=0)  # whoever looks for models to unload still does
        await until(lambda: not models.loaded())

    play(filled_home, scenario)
