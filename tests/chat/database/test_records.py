"""Statistics, models, configurations of providers, retention and export."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, date, datetime, timedelta

import pytest

from gpux.chat.database.database import Database
from gpux.chat.values import ModelCapabilities, ModelInfo, ModelMetadata, ProviderConfig
from gpux.errors import ConversationAccessError, ConversationNotFoundError, UsageError
from tests.chat.database.access import statement
from tests.chat.database.conftest import Using
from tests.chat.database.test_conversations import PNG

TODAY = date(2026, 5, 4)


def test_usage_is_summed_by_day_provider_and_model(using: Using) -> None:
    async def test(database: Database) -> None:
        record = database.usage.record
        await record(
            "ollama", "ollama:a", total_ms=100.4, prompt_tokens=3, completion_tokens=5, first_token_ms=7, day=TODAY
        )
        await record("ollama", "ollama:a", total_ms=50, failed=True, day=TODAY)
        await record("ollama", "ollama:b", total_ms=1, day=TODAY)
        await record("huggingface", "hf:a", total_ms=1, day=TODAY - timedelta(days=1))
        first, second, third = await database.usage.list()
        assert (first.provider, first.model_name, first.day) == ("ollama", "ollama:a", TODAY)
        assert (first.requests, first.failures, first.prompt_tokens, first.completion_tokens) == (2, 1, 3, 5)
        assert (first.total_ms, first.first_token_ms_sum, first.first_tokens) == (150, 7, 1)
        assert (first.mean_first_token_ms, second.mean_first_token_ms) == (7.0, None)
        assert (second.model_name, third.model_name) == ("ollama:b", "hf:a")
        assert await database.usage.list(since=TODAY, model_name="ollama:b") == [second]
        assert await database.usage.list(until=TODAY - timedelta(days=1)) == [third]
        assert await database.usage.list(provider="openai") == []
        assert json.loads(json.dumps(first.to_dict()))["day"] == "2026-05-04"

    using(test)


def test_no_answer_is_lost_where_many_are_counted_at_once(using: Using) -> None:
    async def test(database: Database) -> None:
        await asyncio.gather(
            *(database.usage.record("ollama", "a", total_ms=2, completion_tokens=number) for number in range(60))
        )
        (found,) = await database.usage.list()
        assert (found.requests, found.total_ms, found.completion_tokens) == (60, 120, sum(range(60)))
        assert abs((found.day - datetime.now(UTC).date()).days) <= 1

    using(test)


def test_models_are_stored_and_replaced(using: Using) -> None:
    def info(name: str, description: str | None = None) -> ModelInfo:
        can = ModelCapabilities(
            supports_vision=False, supports_streaming=True, max_context_length=4096, supported_languages=("de", "en")
        )
        known = ModelMetadata(
            size=2**40, parameters=7, architecture="llama", last_updated=datetime(2025, 1, 2, tzinfo=UTC)
        )
        return ModelInfo(
            name=name,
            provider=name.partition(":")[0],
            display_name=name,
            capabilities=can,
            metadata=known,
            description=description,
        )

    async def test(database: Database) -> None:
        await database.metadata.put([info("ollama:b"), info("hf:a", description="First")])
        await database.metadata.put([info("ollama:a"), info("hf:a", description="Zweite 👋")])
        await database.metadata.put([])
        found = await database.metadata.list()
        assert [one.info for one in found] == [
            info("hf:a", description="Zweite 👋"),
            info("ollama:a"),
            info("ollama:b"),
        ]
        assert found[0].updated_at > found[2].updated_at
        assert [one.info.name for one in await database.metadata.list(provider="hf")] == ["hf:a"]
        await database.metadata.replace("ollama", [info("ollama:b"), info("ollama:c")])
        assert [one.info.name for one in await database.metadata.list()] == ["hf:a", "ollama:b", "ollama:c"]
        await database.metadata.replace("nobody", [])
        assert await database.metadata.delete("ollama") == 2
        assert len(await database.metadata.list()) == 1

    using(test)


def test_configurations_of_providers_have_a_history(using: Using) -> None:
    first = ProviderConfig(name="local", type="ollama", base_url="http://127.0.0.1:11434", default_models=("a", "b"))
    second = ProviderConfig(name="local", type="ollama", enabled=False, priority=5, api_key_env="KEY", prefix="l:")

    async def test(database: Database) -> None:
        put = database.provider_configs.put
        versions = [(await put(config)).version for config in (first, first, second, first)]
        assert versions == [1, 1, 2, 3]
        other = await put(ProviderConfig(name="other", priority=1))
        assert [(one.config.name, one.version) for one in await database.provider_configs.list()] == [
            ("other", 1),
            ("local", 3),
        ]
        history = await database.provider_configs.history("local")
        assert [(one.version, one.config) for one in history] == [(3, first), (2, second), (1, first)]
        assert history[0].updated_at > history[2].updated_at
        await database.provider_configs.delete("local")
        assert await database.provider_configs.list() == [other]
        assert (await put(second)).version == 4, "versions of the history are not used again"
        assert await database.provider_configs.history("unknown") == []

    using(test)


def test_one_version_where_many_store_a_configuration_at_once(using: Using) -> None:
    async def test(database: Database) -> None:
        configs = [ProviderConfig(name="local", priority=number) for number in range(20)]
        stored = await asyncio.gather(*(database.provider_configs.put(config) for config in configs))
        assert sorted(one.version for one in stored) == list(range(1, 21))
        assert len(await database.provider_configs.history("local")) == 20

    using(test)


def test_old_conversations_are_deleted(using: Using, url: str) -> None:
    async def test(database: Database) -> None:
        for id, days in (("old", 31), ("new", 29)):
            await database.conversations.create(id=id)
            await database.conversations.add_message(id, "x", images=(PNG,))
            then = f"{datetime.now(UTC) - timedelta(days=days):%Y-%m-%d %H:%M:%S.%f}"
            await statement(url, f"UPDATE conversations SET updated_at = '{then}' WHERE id = '{id}'")
        assert await database.retention.count(30) == 1
        assert await database.retention.purge(30) == 1
        assert [one.id for one in await database.conversations.list()] == ["new"]
        assert await database.conversations.messages("old") == []
        assert await database.retention.purge(30) == 0
        for wrong in (0, -1, 40_000):
            with pytest.raises(UsageError):
                await database.retention.purge(wrong)

    using(test)


def test_export_has_everything(using: Using) -> None:
    async def test(database: Database) -> None:
        chat = await database.conversations.create(
            id="a", tab_name="A\ntitle", llm_model="hf:x", system="Be *kind*.", password="pw"
        )
        await database.conversations.add_message("a", "# Heading\nlook", images=(PNG,))
        answer = await database.answers.begin("a", llm_model="hf:x", model_provider="huggingface")
        database.answers.append(answer, "I se")
        await database.answers.finish(answer, finish_reason="error", error="worker_died", completion_tokens=2)
        found = json.loads(json.dumps(await database.export("a", "pw")))
        assert (found["format"], found["id"], found["tabName"], found["system"]) == (1, "a", "A\ntitle", "Be *kind*.")
        question, partial = found["messages"]
        assert base64.b64decode(question["images"][0]["data"]) == PNG.data
        assert (partial["partial"], partial["error"], partial["completionTokens"]) == (True, "worker_died", 2)
        assert "pw" not in json.dumps({name: value for name, value in found.items() if name != "messages"})
        page = await database.export_markdown("a", "pw")
        assert page.startswith("# A title\n")
        assert "\n### Heading\nlook\n" in page
        assert "## Answer of `hf:x` (incomplete)" in page
        for export in (database.export, database.export_markdown):
            with pytest.raises(ConversationAccessError):
                await export(chat.id)
            with pytest.raises(ConversationNotFoundError):
                await export("b")

    using(test)
