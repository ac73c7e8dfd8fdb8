"""Models that requests name and that are not stored: pulled by jobs from a Hub on loopback."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gpux.errors import (
    CancelledError,
    ForbiddenError,
    GatedModelError,
    InvalidReferenceError,
    JobNotFoundError,
    ModelNotFoundError,
    OfflineError,
    OverloadedError,
)
from gpux.server import models as module
from gpux.server.events import Events
from gpux.server.models import Models
from gpux.server.pulls import Pulls, public
from gpux.server.settings import ServerSettings
from gpux.server.stats import Stats
from gpux.store import Store
from gpux.system.settings import Settings
from tests.hub import Fault, HubServer
from tests.waiting import until


@pytest.fixture
def gpux_settings(hub: HubServer, settings: Settings, tmp_path: Path) -> Settings:
    return settings.with_overrides(home=tmp_path / "home", hf_cache=tmp_path / "hub")


def test_a_request_pulls_its_model_once_and_gets_the_errors_of_the_hub(
    gpux_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK", 0.05)
    stats = Stats()

    async def scenario() -> None:
        models = Models(ServerSettings(port=0, gpux=gpux_settings, allow_pull=True), stats)
        await models.start()

        async def request(name: str) -> str:
            async with models.lease(name, ("feature-extraction",)) as loaded:
                return loaded.name

        try:
            found = await asyncio.gather(
                *(request(name) for name in ("tiny/embed", "tiny/embed", "acme/gated", "no/such-model")),
                return_exceptions=True,
            )
            assert found[:2] == ["tiny/embed", "tiny/embed"]
            assert isinstance(found[2], GatedModelError)
            assert isinstance(found[3], ModelNotFoundError)
            for name in ("./folder", "https://example.org/a/b", "ollama:llama3"):
                with pytest.raises(ModelNotFoundError):
                    await request(name)
            Store(gpux_settings.store).removal_plan(models.stored()).execute()  # as gpux rm does in another process
            await until(lambda: not models.loaded() and not models.listing())
        finally:
            await models.close()

    asyncio.run(scenario())
    assert (stats.pulls, stats.loads) == (3, {"tiny/embed": 1})


def test_a_job_is_followed_by_its_events_and_cancelled(
    hub: HubServer, gpux_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpux.server.pulls.MOST", 1)
    hub.add_fault(Fault("throttle", path="tokenizer.json", times=None, rate=20))
    events = Events()

    async def scenario() -> None:
        pulls = Pulls(gpux_settings, events=events)
        heard = []

        async def listen() -> None:
            async for event in events.listen():
                heard.append(event.kind)

        listening = asyncio.create_task(listen())
        await asyncio.sleep(0)
        job = await pulls.start("tiny/embed", revision="v1")
        assert (await pulls.start("tiny/embed@v1")).id == job.id
        with pytest.raises(OverloadedError):
            await pulls.start("tiny/fill")
        assert [one.id for one in await pulls.jobs()] == [job.id]
        kinds = []
        async for event in pulls.events(job.id):
            kinds.append(event["kind"])
            if event["kind"] == "bytes_advanced":
                assert (await pulls.cancel(job.id)).status == "cancelled"
        assert kinds[0] == "stage_started"
        with pytest.raises(CancelledError):
            await pulls.wait(job.id)
        await until(lambda: "pull_ended" in heard, lambda: heard)
        listening.cancel()
        with pytest.raises(JobNotFoundError):
            await pulls.wait("bcd23")
        await pulls.close()

    asyncio.run(scenario())


def test_what_reaches_the_servers_disk_or_network_is_not_pulled(gpux_settings: Settings) -> None:
    async def start(name: str, settings: Settings = gpux_settings) -> None:
        await Pulls(settings).start(name)

    for name in ("./folder", "/etc", "~/models", "model.onnx", "https://example.org/a/b", "org/name/onnx/model.onnx"):
        with pytest.raises(ForbiddenError):
            asyncio.run(start(name))
    with pytest.raises(InvalidReferenceError):
        asyncio.run(start("--output=x"))
    with pytest.raises(OfflineError):
        asyncio.run(start("tiny/embed", gpux_settings.with_overrides(offline=True)))


def test_errors_of_jobs_name_no_folders(gpux_settings: Settings) -> None:
    error = ModelNotFoundError(f"{gpux_settings.home}/store: gone", hint=f"See {gpux_settings.hf_cache}", path="/x")
    shown = public(error, gpux_settings).to_dict()
    assert shown == {"code": "model_not_found", "message": "GPUX_HOME/store: gone", "hint": "See HF_HUB_CACHE"}


def test_a_pull_downloads_into_the_source_cache_of_its_model(gpux_settings: Settings, tmp_path: Path) -> None:
    async def scenario() -> None:
        pulls = Pulls(gpux_settings)
        pulls.cache_of = lambda ref: tmp_path / "other" if ref == "tiny/embed" else None
        try:
            assert (await pulls.wait((await pulls.start("tiny/embed")).id)).status == "finished"
        finally:
            await pulls.close()

    asyncio.run(scenario())
    assert [path.name for path in (tmp_path / "other").glob("models--*")] == ["models--tiny--embed"]
    assert not list(gpux_settings.hf_cache.glob("models--*"))
