"""The registry of chat providers: conflicts, routes, lists of which one hangs, and changed configurations."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from gpux.chat.provider import ModelProvider, ProviderSetup
from gpux.chat.providers import registry as registry_module
from gpux.chat.providers.registry import ModelProviderRegistry
from gpux.chat.values import ChatConfiguration, ChatRequest, Message, ProviderConfig
from gpux.errors import (
    ConfigurationError,
    GpuxError,
    ModelNotFoundError,
    ProviderError,
    ProviderNotFoundError,
    ProviderUnavailableError,
    UsageError,
)
from gpux.system.settings import Settings
from tests.chat.providers.scripted import Scripted, registry_of
from tests.waiting import until


def run(test: Callable[[], Awaitable[Any]]) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(test(), 60)

    return asyncio.run(bounded())


class Clock:
    """Seconds that pass when a test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    found = Clock()
    monkeypatch.setattr(registry_module, "clock", found)
    yield found


@pytest.mark.parametrize(
    ("name", "prefix", "said"),
    [("a", "b:", "two chat providers have the name a"), ("b", "a:", "the same prefix a:"), ("c", "c", "prefix 'c'")],
)
def test_names_and_prefixes_are_unique(name: str, prefix: str, said: str) -> None:
    async def test() -> None:
        registry = await registry_of(Scripted("a"))
        with pytest.raises(ConfigurationError, match=said):
            await registry.register_provider(Scripted(name, prefix=prefix))
        assert [one.name for one in registry.get_all_providers()] == ["a"]

    run(test)


def test_providers_are_ordered_by_priority() -> None:
    async def test() -> None:
        registry = await registry_of(
            Scripted("late", priority=3), Scripted("first", priority=1), Scripted("second", priority=2)
        )
        assert [one.name for one in registry.get_all_providers()] == ["first", "second", "late"]

    run(test)


def test_a_known_prefix_decides() -> None:
    async def test() -> None:
        registry = await registry_of(Scripted("ollama"), Scripted("hf"))
        assert registry.get_provider("hf:org/name:int4").name == "hf"
        route = await registry.route("hf:org/name:int4")
        assert (route.provider.name, route.model) == ("hf", "hf:org/name:int4")
        assert not any(one.listed for one in registry.get_all_providers() if isinstance(one, Scripted))

    run(test)


def test_without_a_prefix_the_default_provider_answers() -> None:
    async def test() -> None:
        hf, ollama = Scripted("hf", ["org/name:int4"], priority=1), Scripted("ollama", ["llama3.2:1b"], priority=2)
        registry = await registry_of(hf, ollama, configuration=ChatConfiguration(default_provider="ollama"))
        for name in ("llama3.2:1b", "org/name:int4", "anything"):
            assert registry.get_provider(name) is ollama
            assert (await registry.route(name)).model == f"ollama:{name}"

    run(test)


def test_without_a_default_the_first_that_has_the_model_answers() -> None:
    async def test() -> None:
        hf, ollama = (
            Scripted("hf", ["org/name:int4", "both"], priority=1),
            Scripted("ollama", ["llama3.2:1b", "both"], priority=2),
        )
        registry = await registry_of(ollama, hf)
        with pytest.raises(ModelNotFoundError):
            registry.get_provider("both")  # no list was read
        for name, provider in {"llama3.2:1b": ollama, "org/name:int4": hf, "both": hf}.items():
            assert (await registry.route(name)).provider is provider
        await registry.lists()
        assert registry.get_provider("both") is hf
        assert registry.get_provider("llama3.2:1b") is ollama

    run(test)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("anthropic:claude", ProviderNotFoundError),
        ("llama3.2:99b", ModelNotFoundError),  # a tag that a known model does not have
        ("org/name:int9", ModelNotFoundError),
        ("nothing", ModelNotFoundError),
        ("off:model", ProviderNotFoundError),
        ("hf:model", ProviderNotFoundError),
        ("", ModelNotFoundError),
        (":", ProviderNotFoundError),
    ],
)
def test_unknown_names(name: str, error: type[GpuxError]) -> None:
    off = {
        "off": ProviderConfig(name="off", enabled=False),
        "huggingface": ProviderConfig(name="huggingface", enabled=False),
    }

    async def test() -> None:
        registry = await registry_of(
            Scripted("ollama", ["llama3.2:1b"]), configuration=ChatConfiguration(providers=off)
        )
        await registry.lists()
        with pytest.raises(error) as caught:
            await registry.route(name)
        assert caught.value.hint
        with pytest.raises(error):
            registry.get_provider(name)

    run(test)


def test_a_registry_without_providers_says_how_to_get_one() -> None:
    async def test() -> None:
        registry = await registry_of()
        with pytest.raises(ProviderNotFoundError, match="there is no chat provider"):
            await registry.route("x")
        assert (await registry.lists()).models == []

    run(test)


def test_a_provider_that_hangs_or_fails_costs_the_others_nothing() -> None:
    async def test() -> None:
        fine, hanging, failing, faulty = (
            Scripted("fine", ["x"]),
            Scripted("hanging"),
            Scripted("failing"),
            Scripted("faulty"),
        )
        hanging.gate = asyncio.Event()
        failing.list_error = ProviderUnavailableError("nobody is there", hint="Start it.")
        faulty.list_error = KeyError("models")
        registry = await registry_of(hanging, failing, faulty, fine)
        lists = await registry.lists()
        assert [one.name for one in lists.models] == ["fine:x"]
        assert {name: type(error) for name, error in lists.errors.items()} == {
            "hanging": ProviderUnavailableError,
            "failing": ProviderUnavailableError,
            "faulty": ProviderError,
        }
        assert hanging.listed == 1
        await registry.lists()
        assert hanging.listed == 1, "one reading at a time"
        assert (await registry.route("x")).provider is fine
        with pytest.raises(ProviderUnavailableError, match="hanging"):
            await registry.route("y")  # one of those that did not answer may have it
        await registry.aclose()
        assert hanging.closed == 1

    run(test)


def test_an_answer_names_the_providers_that_were_passed_over() -> None:
    async def test() -> None:
        gone, fine = Scripted("gone", priority=1), Scripted("fine", ["x"], priority=2)
        registry = await registry_of(gone, fine)
        await registry.lists()
        gone.list_error = ProviderUnavailableError("nobody is there", hint="Start it.")
        route = await registry.route("x")
        assert (route.provider, list(route.skipped)) == (fine, ["gone"])

    run(test)


def test_a_provider_that_never_answered_is_passed_over_in_silence() -> None:
    async def test() -> None:
        absent, fine = Scripted("absent", priority=1), Scripted("fine", ["x"], priority=2)
        absent.list_error = ProviderUnavailableError("nobody is there", hint="Start it.")
        registry = await registry_of(absent, fine)
        await registry.lists()
        route = await registry.route("x")
        assert (route.provider, route.skipped) == (fine, {})
        with pytest.raises(ProviderUnavailableError, match="absent did not answer"):
            await registry.route("y")

    run(test)


def test_a_list_that_hangs_is_waited_for_once(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        hanging, fine = Scripted("hanging"), Scripted("fine", ["x"])
        hanging.gate = asyncio.Event()
        registry = await registry_of(hanging, fine)
        assert list((await registry.lists()).errors) == ["hanging"]
        monkeypatch.setattr(registry_module, "PATIENCE", 1000)
        clock.now += 1000
        for _ in range(3):
            assert list((await registry.lists()).errors) == ["hanging"]
            assert (await registry.route("x")).provider is fine
        hanging.gate.set()

        async def has_come() -> bool:
            return not (await registry.lists()).errors

        await until(has_come)
        await registry.aclose()

    run(test)


def test_the_longest_prefix_decides() -> None:
    async def test() -> None:
        registry = await registry_of(Scripted("a"), Scripted("b", prefix="a:b:"))
        assert registry.get_provider("a:b:x").name == "b"
        assert registry.get_provider("a:x").name == "a"

    run(test)


def test_lists_are_kept_and_read_again_in_the_background(clock: Clock) -> None:
    async def test() -> None:
        names = ["a"]
        provider = Scripted("p")
        provider.models = lambda: names
        registry = await registry_of(provider)

        async def listed(**options: bool) -> list[str]:
            return [one.display_name for one in await registry.list_all_models(**options)]

        assert (await listed(), provider.listed) == (["a"], 1)
        names.append("b")
        assert (await listed(), provider.listed) == (["a"], 1)
        assert (await listed(refresh=True), provider.listed) == (["a", "b"], 2)
        names.append("c")
        clock.now += registry_module.FRESH + 1
        provider.gate = asyncio.Event()
        assert await listed() == ["a", "b"], "the old list is answered at once"
        provider.gate.set()
        await until(lambda: registry.known("p:c"), lambda: registry._entries)
        assert (await listed(), provider.listed) == (["a", "b", "c"], 3)
        names.append("d")
        clock.now += registry_module.STALE + 1
        assert (await listed(), provider.listed) == (["a", "b", "c", "d"], 4)
        names.append("e")
        registry.forget_models("p")
        assert (await listed(), provider.listed) == (["a", "b", "c", "d", "e"], 5)

    run(test)


def test_a_failed_list_keeps_the_models_and_is_read_again() -> None:
    async def test() -> None:
        provider = Scripted("p", ["a"])
        registry = await registry_of(provider)
        await registry.lists()
        provider.list_error = ProviderUnavailableError("nobody is there", hint="Start it.")
        lists = await registry.lists(refresh=True)
        assert ([one.name for one in lists.models], list(lists.errors)) == (["p:a"], ["p"])
        assert [one.name for one in await registry.models_of("p")] == ["p:a"]
        provider.list_error = None
        assert not (await registry.lists()).errors

    run(test)


def test_models_of_one_provider() -> None:
    async def test() -> None:
        gone = Scripted("gone")
        gone.list_error = ProviderUnavailableError("nobody is there", hint="Start it.")
        registry = await registry_of(gone, Scripted("p", ["b", "a"]))
        assert [one.name for one in await registry.models_of("p")] == ["p:a", "p:b"]
        with pytest.raises(ProviderUnavailableError):
            await registry.models_of("gone")
        with pytest.raises(ProviderNotFoundError):
            await registry.models_of("other")

    run(test)


def test_requests_are_routed_by_the_model() -> None:
    async def test() -> None:
        registry = await registry_of(Scripted("a", ["x"]), Scripted("b", ["y"]))
        assert await registry.route_request("a:x", "generate_response", "hi") == "one two"
        assert [piece async for piece in await registry.route_request("y", "stream_response", "hi")] == ["one", " two"]
        assert await registry.route_request("b:y", "check_model_exists") is True
        with pytest.raises(UsageError, match="no operation 'aclose'"):
            await registry.route_request("a:x", "aclose")

    run(test)


class First(Scripted):
    """A provider of an entry point."""

    def __init__(self, setup: ProviderSetup) -> None:
        super().__init__("", ["m"], [["a", None]], setup=setup)

    default_prefix = "first:"


class Point:
    """An entry point."""

    value = "tests:First"

    def load(self) -> type[ModelProvider]:
        return First


class Broken(Point):
    def load(self) -> type[ModelProvider]:
        raise ImportError("No module named 'absent'")


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"first": Point(), "broken": Broken()}
    monkeypatch.setattr(registry_module, "registered", lambda group, what: found)


def configured(*configs: ProviderConfig, **rest: Any) -> ChatConfiguration:
    return ChatConfiguration(providers={one.name: one for one in configs}, **rest)


@pytest.mark.usefixtures("points")
def test_providers_are_made_from_entry_points() -> None:
    async def test() -> None:
        configuration = configured(
            ProviderConfig(name="one", type="first", prefix="1:"),
            ProviderConfig(name="first"),
            ProviderConfig(name="off", type="broken", enabled=False),
        )
        registry = await ModelProviderRegistry.open(configuration, Settings.from_env())
        assert [(one.name, one.prefix) for one in registry.get_all_providers()] == [("one", "1:"), ("first", "first:")]

    run(test)


@pytest.mark.usefixtures("points")
@pytest.mark.parametrize(
    ("config", "said"),
    [
        (ProviderConfig(name="x"), "the type 'x' .* is unknown"),
        (ProviderConfig(name="z", type="first"), "the same prefix first:"),
    ],
)
def test_a_wrong_configuration_is_an_error_with_its_key(config: ProviderConfig, said: str) -> None:
    async def test() -> None:
        configuration = configured(ProviderConfig(name="first"), config)
        with pytest.raises(ConfigurationError, match=said) as caught:
            await ModelProviderRegistry.open(configuration, Settings.from_env())
        assert caught.value.details["key"].startswith(f"providers.{config.name}.")

    run(test)


@pytest.mark.usefixtures("points")
def test_a_provider_that_cannot_be_made_costs_the_others_nothing() -> None:
    async def test() -> None:
        configuration = configured(ProviderConfig(name="first"), ProviderConfig(name="broken"))
        registry = await ModelProviderRegistry.open(configuration, Settings.from_env())
        lists = await registry.lists()
        assert [one.name for one in lists.models] == ["first:m"]
        assert "No module named 'absent'" in str(lists.errors["broken"])
        for call in (
            registry.named("broken").initialize(),
            registry.route_request("broken:m", "generate_response", "x"),
        ):
            with pytest.raises(ConfigurationError) as caught:
                await call
            assert caught.value.details["key"] == "providers.broken.type"
        await registry.aclose()

    run(test)


@pytest.mark.usefixtures("points")
def test_a_changed_configuration_replaces_what_it_changes_and_lets_answers_end() -> None:
    async def test() -> None:
        stays, changes = ProviderConfig(name="first"), ProviderConfig(name="two", type="first", prefix="2:")
        old = configured(stays, changes)
        registry = await ModelProviderRegistry.open(old, Settings.from_env())
        first, two = registry.get_all_providers()
        assert isinstance(two, First)
        answer = two.answer(ChatRequest(model="m", messages=(Message(role="user", content="hi"),)))
        assert getattr(await anext(answer), "text", None) == "a"

        new = configured(stays, ProviderConfig(name="two", type="first", prefix="2:", timeout_ms=5), retry_attempts=9)
        await registry.reconfigure(old, new)
        assert registry.get_provider("first:m") is first
        assert first.setup.configuration.retry_attempts == 9
        assert registry.get_provider("2:m") is not two
        await asyncio.sleep(0.01)
        assert two.closed == 0, "its answer still runs"
        await answer.aclose()
        await until(lambda: two.closed)
        assert two.closed == 1

        with pytest.raises(ConfigurationError):
            await registry.reconfigure(new, configured(stays, ProviderConfig(name="x")))
        assert [one.name for one in registry.get_all_providers()] == ["first", "two"]
        assert registry.configuration is new
        await registry.reconfigure(new, configured())
        assert registry.get_all_providers() == []
        await registry.aclose()
        await registry.aclose()

    run(test)


@pytest.mark.usefixtures("points")
def test_providers_of_the_program_stay_when_the_configuration_changes() -> None:
    async def test() -> None:
        own = Scripted("own")
        registry = await ModelProviderRegistry.open(configured(ProviderConfig(name="first")), Settings.from_env())
        await registry.register_provider(own)
        await registry.reconfigure(registry.configuration, configured())
        assert registry.get_all_providers() == [own]

    run(test)


def test_a_thousand_models_of_three_providers() -> None:
    async def test() -> None:
        registry = await registry_of(*(Scripted(name, [f"m{place}" for place in range(334)]) for name in "abc"))
        assert len(await registry.list_all_models()) == 1002
        known = registry.known("c:m333")
        assert known is not None and known.provider == "c"
        assert registry.known("c:m999") is None

    run(test)
