"""All three types of providers in one registry, made as the service makes them, on servers that run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest

from gpux.chat.providers.aggregator import ModelListAggregator
from gpux.chat.providers.registry import ModelProviderRegistry
from gpux.chat.providers.router import StreamMessageRouter
from gpux.chat.values import ChatConfiguration, ModelConfig, ProviderConfig
from gpux.errors import ConfigurationError, ProviderError
from gpux.system.settings import Settings
from tests.chat.providers.scripted import Fixed
from tests.ollama.running import RunningOllama
from tests.server.running import RECITER, WRITER, Running


def configuration(ollama: str, gpux: str, **rest: Any) -> ChatConfiguration:
    configs = (
        ProviderConfig(name="ollama", base_url=ollama),
        ProviderConfig(name="second", type="ollama", prefix="second:", base_url=gpux),
        ProviderConfig(name="local", type="openai", prefix="local:", base_url=f"{gpux}/v1"),
    )
    return ChatConfiguration(providers={one.name: one for one in configs}, retry_delay_ms=1, **rest)


def run(
    given: ChatConfiguration, test: Callable[[ModelProviderRegistry, StreamMessageRouter], Awaitable[None]]
) -> None:
    async def main() -> None:
        registry = await ModelProviderRegistry.open(given, Settings.from_env())
        async with aclosing(registry), asyncio.timeout(120):
            await test(registry, StreamMessageRouter(registry, Fixed(given)))

    asyncio.run(main())


async def answer(router: StreamMessageRouter, model: str, message: str, **options: Any) -> str:
    response = await router.route_stream_request(model, message, options=options)
    return "".join([piece async for piece in response.content])


def test_lists_of_all(ollama: RunningOllama, gpux_server: Running) -> None:
    async def test(registry: ModelProviderRegistry, router: StreamMessageRouter) -> None:
        models = ModelListAggregator(registry)
        names = {one.name for one in await models.aggregate_model_lists()}
        assert {"ollama:echo:latest", f"second:{WRITER}:fp32", f"local:{WRITER}"} <= names
        assert (await models.get_model_details(f"second:{WRITER}")).info.metadata.architecture == "llama"
        known = registry.known("ollama:seeing")
        assert known is not None, "without its tag"
        assert known.capabilities.supports_vision
        assert router.get_supported_providers() == ["ollama", "second", "local"]
        for name in ("echo", f"{RECITER}:fp32", f"local:{RECITER}"):
            assert (await router.validate_model_provider(name)).valid

    run(configuration(ollama.url, gpux_server.url), test)


def test_a_hundred_conversations_at_the_same_time_over_all(ollama: RunningOllama, gpux_server: Running) -> None:
    """With as many that are left and that have no model, each answer is the one of its conversation alone."""
    greedy: dict[str, Any] = {"temperature": 0, "max_tokens": 8}

    async def test(registry: ModelProviderRegistry, router: StreamMessageRouter) -> None:
        asked = [
            (model, f"number {place}")
            for place in range(33)
            for model in ("ollama:slow", f"second:{WRITER}", f"local:{WRITER}")
        ]
        asked.append(("ollama:unicode", "hi"))
        # The slow model repeats; both clients of gpux's server have the answers of its model, as another test shows.
        expected = {text: await answer(router, f"local:{WRITER}", text, **greedy) for text in {one for _, one in asked}}
        alone = {(model, text): expected[text] for model, text in asked}
        alone |= {(model, text): text for model, text in asked if model == "ollama:slow"}
        alone["ollama:unicode", "hi"] = await answer(router, "ollama:unicode", "hi", **greedy)
        others = [asyncio.create_task(answer(router, *one, **greedy)) for one in asked[:20]]
        missing = [asyncio.create_task(answer(router, f"{prefix}absent", "hi")) for prefix in ("ollama:", "local:") * 5]
        together = asyncio.gather(*(answer(router, *one, **greedy) for one in asked))
        await asyncio.sleep(0.05)
        for task in others:
            task.cancel()
        assert dict(zip(asked, await together, strict=True)) == alone
        assert len(set(alone.values())) > 50, "answers differ between conversations"
        found = await asyncio.gather(*missing, *others, return_exceptions=True)
        assert all(isinstance(one, (Exception, asyncio.CancelledError, str)) for one in found)
        assert all(provider.is_idle for provider in registry.get_all_providers())

    run(configuration(ollama.url, gpux_server.url), test)


def test_the_same_model_by_two_apis_has_the_same_answer(ollama: RunningOllama, gpux_server: Running) -> None:
    options = {"temperature": 0, "max_tokens": 12, "stop": ["zz"], "seed": 3, "top_p": 0.9, "top_k": 5}

    async def test(registry: ModelProviderRegistry, router: StreamMessageRouter) -> None:
        second, local = [await answer(router, f"{name}:{WRITER}", "abc", **options) for name in ("second", "local")]
        assert second == local != ""

    run(configuration(ollama.url, gpux_server.url), test)


def test_a_fallback_over_two_servers_is_said(ollama: RunningOllama, gpux_server: Running) -> None:
    models = {
        "ollama:busy": ModelConfig(model_name="ollama:busy", provider="ollama", fallback_models=(f"local:{WRITER}",)),
    }

    async def test(registry: ModelProviderRegistry, router: StreamMessageRouter) -> None:
        response = await router.route_stream_request("ollama:busy", "abc", options={"max_tokens": 3})
        assert len("".join([piece async for piece in response.content])) == 3
        assert response.model == f"local:{WRITER}"
        said = str(response.metadata.fallback)
        assert "maximum pending requests exceeded" in said
        assert said.endswith(f"local:{WRITER} answers in its place")
        with pytest.raises(ProviderError, match="runner process has terminated"):
            await answer(router, "ollama:broken:latest", "hi")  # no fallback is configured for it

    run(configuration(ollama.url, gpux_server.url, models=models), test)


def test_one_wrong_address_costs_the_others_nothing(ollama: RunningOllama) -> None:
    async def test(registry: ModelProviderRegistry, router: StreamMessageRouter) -> None:
        lists = await registry.lists()
        assert {one.provider for one in lists.models} == {"ollama"}
        assert {name: type(error) for name, error in lists.errors.items()} == {
            "second": ConfigurationError,
            "local": ConfigurationError,
        }
        assert await answer(router, "ollama:echo", "still here") == "still here"
        with pytest.raises(ConfigurationError):
            await answer(router, "local:m", "hi")

    run(configuration(ollama.url, "nonsense://"), test)
