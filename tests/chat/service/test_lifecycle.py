"""What watches over models and providers: which are loaded, what they take, and who answers."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from gpux.chat.lifecycle import FAILURES, Lifecycle
from gpux.chat.provider import ModelProvider, ProviderSetup
from gpux.chat.providers.hugging_face import HuggingFaceProvider
from gpux.chat.providers.ollama import OllamaProvider
from gpux.chat.providers.registry import ModelProviderRegistry
from gpux.chat.values import ChatConfiguration, ModelConfig, ProviderConfig
from gpux.errors import ProviderNotFoundError, ProviderUnavailableError
from gpux.server.core import Core
from gpux.server.settings import ServerSettings
from gpux.system.settings import Settings
from tests.chat.database.access import empty_database
from tests.chat.providers.scripted import Scripted, registry_of
from tests.chat.service.talking import ALONE, chatting, talk
from tests.ollama.running import running_ollama
from tests.server.running import TURNS, WRITER
from tests.waiting import until, wait_until

GONE = ProviderUnavailableError("p is gone", hint="Start it.")


class Watched:
    """The parts of a service that are watched."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.registry = ModelProviderRegistry()
        self.lifecycle = Lifecycle(self)

    async def use(self, *providers: ModelProvider) -> None:
        self.registry = await registry_of(*providers)

    def hub(self, **configuration: Any) -> HuggingFaceProvider:
        found = ChatConfiguration(**configuration)
        config = ProviderConfig(name="huggingface")
        return HuggingFaceProvider(ProviderSetup(config, found, self.core.settings.gpux, self.core))


def run(home: Path, test: Callable[[Watched], Coroutine[Any, Any, None]]) -> None:
    @asynccontextmanager
    async def watched() -> AsyncIterator[Watched]:
        settings = Settings.from_env({"GPUX_HOME": str(home), "HF_HOME": str(home / "hf")})
        core = Core(ServerSettings(gpux=settings, port=0, restore=False, without=frozenset({"chat"})))
        await core.start()
        made = Watched(core)
        try:
            yield made
        finally:
            await made.lifecycle.close()
            await made.registry.aclose()
            await core.close()

    async def main() -> None:
        async with asyncio.timeout(120), watched() as made:
            await test(made)

    asyncio.run(main())


# Models


def test_the_loaded_models_of_all_providers(filled_store: Path) -> None:
    async def test(watched: Watched) -> None:
        class Hanging(Scripted):
            async def _loaded(self) -> list[str]:
                raise GONE

        with running_ollama() as ollama:
            config = ProviderConfig(name="ollama", base_url=ollama.url)
            remote = OllamaProvider(ProviderSetup(config, ChatConfiguration(), watched.core.settings.gpux))
            await watched.use(watched.hub(), remote, Hanging("p"))
            assert await watched.lifecycle.tracker.loaded() == []
            await watched.registry.named("huggingface").load_model(f"hf:{WRITER}")
            await watched.registry.named("ollama").load_model("ollama:echo")
            local, other = await watched.lifecycle.tracker.loaded()
            assert (local.name, local.provider) == (f"hf:{WRITER}", "huggingface")
            assert local.memory_bytes is not None
            assert local.memory_bytes > 10 << 20
            assert (other.name, other.provider, other.memory_bytes) == ("ollama:echo:latest", "ollama", None)

    run(filled_store, test)


def test_default_models_are_loaded_with_retries(filled_store: Path) -> None:
    loads: list[str] = []

    class Failing(Scripted):
        async def _load(self, model: str) -> None:
            loads.append(model)
            if len(loads) < 3 or model == "never":
                raise GONE

    async def test(watched: Watched) -> None:
        config = ProviderConfig(name="p", prefix="p:", default_models=("p:slow", "p:never", "last"))
        await watched.use(Failing("p", setup=ProviderSetup(config, ChatConfiguration(), watched.core.settings.gpux)))
        await watched.lifecycle.tracker.preload(ChatConfiguration(retry_attempts=2, retry_delay_ms=1))
        assert loads == ["slow", "slow", "slow", "never", "never", "never", "last"]

    run(filled_store, test)


# Memory


def test_a_configured_number_of_models_is_loaded_at_the_same_time(filled_store: Path) -> None:
    async def test(watched: Watched) -> None:
        models, hub, memory = watched.core.models, watched.hub(), watched.lifecycle.memory
        await hub.load_model(WRITER)
        await hub.load_model(TURNS)
        assert len(memory.usage().models) == 2
        memory.limit(models=1, memory=None)
        await until(lambda: [one.name for one in models.loaded()] == [TURNS])
        await hub.load_model(WRITER)
        assert [one.name for one in models.loaded()] == [WRITER]
        memory.limit(models=None, memory=None)
        await hub.load_model(TURNS)
        assert len(models.loaded()) == 2
        memory.limit(models=None, memory=1 << 20)
        assert memory.usage().limit == 1 << 20
        await until(lambda: len(models.loaded()) == 1)

    run(filled_store, test)


def test_a_model_that_takes_more_than_its_limit_is_unloaded_when_it_is_idle(filled_store: Path) -> None:
    async def test(watched: Watched) -> None:
        hub, memory = watched.hub(), watched.lifecycle.memory
        await hub.load_model(WRITER)
        await hub.load_model(TURNS)
        name = f"hf:{WRITER}"
        small = ModelConfig(model_name=name, provider="huggingface", max_memory=1 << 20)
        configuration = ChatConfiguration(models={name: small})
        async with watched.core.models.lease(WRITER):
            assert await memory.cleanup(configuration) == []
        assert await memory.cleanup(configuration) == [WRITER]
        assert list(memory.usage().models) == [TURNS]
        assert memory.usage().total == sum(memory.usage().models.values())

    run(filled_store, test)


# Health


def test_a_provider_that_fails_is_unhealthy_and_connects_anew(filled_store: Path) -> None:
    async def test(watched: Watched) -> None:
        provider, other = Scripted("p", ["m"]), Scripted("q", ["m"])
        await watched.use(provider, other)
        health = watched.lifecycle.health
        assert (health.known("p").status, health.known("p").last_checked) == ("unknown", None)
        assert [one.status for one in await health.check_all()] == ["healthy", "healthy"]
        provider.list_error = GONE
        for number in range(1, FAILURES + 1):
            found = await health.check("p")
            assert (found.healthy, found.status) == (False, "unhealthy")
            assert "p is gone" in (found.error or "")
            assert found.metrics["consecutiveFailures"] == number
        assert provider.closed == 1, "its connections are made anew"
        assert health.known("q").status == "healthy"
        provider.list_error = None
        found = await health.check("p")
        assert (found.status, found.error, health.known("p")) == ("healthy", None, found)
        with pytest.raises(ProviderNotFoundError):
            await health.check("nobody")

    run(filled_store, test)


def test_the_check_of_a_provider_that_was_replaced_is_not_that_of_the_new_one(filled_store: Path) -> None:
    async def test(watched: Watched) -> None:
        old, new = Scripted("p", ["m"]), Scripted("p", ["m"])
        old.list_error = new.list_error = GONE
        await watched.use(old)
        health = watched.lifecycle.health
        for _ in range(FAILURES - 1):
            assert (await health.check("p")).status == "unhealthy"
        await watched.use(new)
        assert health.known("p").status == "unknown"
        assert (await health.check("p")).metrics["consecutiveFailures"] == 1
        new.list_error = None
        assert (await health.check("p")).healthy

    run(filled_store, test)


def test_answers_that_run_keep_a_failing_provider_open(filled_store: Path) -> None:
    async def test(watched: Watched) -> None:
        provider = Scripted("p", ["m"])
        await watched.use(provider)
        provider.list_error = GONE
        with provider.held():
            for _ in range(FAILURES + 1):
                await watched.lifecycle.health.check("p")
            assert provider.closed == 0

    run(filled_store, test)


def test_a_model_that_died_too_often_makes_its_provider_degraded(filled_store: Path) -> None:
    async def test(watched: Watched) -> None:
        await watched.use(watched.hub())
        health = watched.lifecycle.health
        for _ in range(3):
            loaded = await watched.core.models.load(WRITER)
            loaded.worker._kill()
            await until(lambda: not watched.core.models.loaded())
        found = await health.check("huggingface")
        assert (found.healthy, found.status) == (True, "degraded")
        assert WRITER in (found.error or "")

    run(filled_store, test)


def test_checks_follow_the_configured_intervals(filled_store: Path) -> None:
    async def test(watched: Watched) -> None:
        provider = Scripted("p", ["m"])
        await watched.use(provider)
        lifecycle = watched.lifecycle
        lifecycle.start(ChatConfiguration(health_check_interval_ms=3_600_000), models=None, memory=None)
        await asyncio.sleep(0.05)
        assert lifecycle.health.known("p").status == "unknown"
        lifecycle.reconfigure(ChatConfiguration(health_check_interval_ms=10), models=None, memory=None)
        await until(lambda: lifecycle.health.known("p").status == "healthy")
        provider.list_error = GONE
        await until(lambda: lifecycle.health.known("p").status == "unhealthy")
        lifecycle.reconfigure(
            ChatConfiguration(health_check_interval_ms=10, monitoring=False), models=None, memory=None
        )
        provider.list_error = None
        last = lifecycle.health.known("p").last_checked
        await asyncio.sleep(0.1)
        assert lifecycle.health.known("p").last_checked == last

    run(filled_store, test)


def test_a_server_loads_the_default_models_and_keeps_to_the_variables(home: Path) -> None:
    configuration = f'{ALONE}[providers.huggingface]\ndefault_models = ["hf:{WRITER}"]\n'
    with chatting(home, configuration, MAX_CONCURRENT_MODELS="1") as server:

        def loaded() -> list[str]:
            return [one["name"] for one in server.get("/api/ps").json()["models"]]

        wait_until(lambda: [one.removesuffix(":fp32") for one in loaded()] == [WRITER])
        assert talk(server, {"model": f"hf:{TURNS}", "message": "hi", "options": {"maxTokens": 2}}).end
        assert [one.removesuffix(":fp32") for one in loaded()] == [TURNS]


def test_a_server_stores_what_is_configured_and_deletes_old_conversations(home: Path) -> None:
    file = home / "conversations.db"
    file.write_bytes(empty_database())
    row = "INSERT INTO conversations (id, tab_name, is_private, created_at, updated_at) VALUES ('old', '', 0, ?1, ?1)"
    with closing(sqlite3.connect(file)) as database, database:
        database.execute(row, ("2020-01-01 00:00:00.000000",))
    with chatting(home, f"retention_days = 30\n{ALONE}") as server:

        def rows(statement: str) -> list[Any]:
            with closing(sqlite3.connect(file)) as database:
                return [row[0] for row in database.execute(statement)]

        body = {"model": f"hf:{WRITER}", "message": "hi", "options": {"maxTokens": 2}}
        begun = talk(server, body).session["conversationId"]
        wait_until(lambda: rows("SELECT id FROM conversations") == [begun])
        assert rows("SELECT name FROM provider_configs ORDER BY name") == ["huggingface", "ollama"]
        wait_until(lambda: f"hf:{WRITER}" in rows("SELECT model_name FROM model_metadata"))
        (home / "chat.toml").write_text(f"{ALONE}priority = 7\n")
        wait_until(lambda: rows("SELECT version FROM provider_configs WHERE name = 'ollama'") == [2])
