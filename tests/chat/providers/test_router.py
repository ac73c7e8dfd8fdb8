"""The router of conversations: retries, fallbacks, time limits and errors of every kind, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gpux.chat.providers.aggregator import ModelListAggregator
from gpux.chat.providers.router import StreamMessageRouter
from gpux.chat.values import (
    ChatConfiguration,
    ChatOptions,
    Delta,
    Finished,
    Image,
    Message,
    ModelConfig,
    StreamResponse,
    ValidationResult,
)
from gpux.errors import (
    DeadlineError,
    InputError,
    ModelNotFoundError,
    ProviderError,
    ProviderNotFoundError,
    ProviderUnavailableError,
    UsageError,
    WorkerDiedError,
)
from tests.chat.providers.scripted import Fixed, Scripted, registry_of
from tests.waiting import until

END = Finished(reason="stop", prompt_tokens=3, completion_tokens=2)
ANSWER: list[Any] = ["one", " two", END]
GONE = ProviderUnavailableError("nobody is there", hint="Start it.")
PICTURE = Image(data=b"\x89PNG\r\n\x1a\n", media_type="image/png")


def run(test: Callable[[], Awaitable[Any]]) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(test(), 60)

    return asyncio.run(bounded())


async def router_of(*providers: Scripted, **configuration: Any) -> StreamMessageRouter:
    found = ChatConfiguration(**{"retry_delay_ms": 1, **configuration})
    return StreamMessageRouter(await registry_of(*providers, configuration=found), Fixed(found))


async def text(response: StreamResponse) -> str:
    return "".join([piece async for piece in response.content])


def test_an_answer_with_what_is_known_about_it() -> None:
    async def test() -> None:
        provider = Scripted("p", ["m"], [[Delta(reasoning="hm"), *ANSWER]])
        router = await router_of(provider)
        response = await router.route_stream_request("p:m", "hi", [{"role": "system", "content": "x"}], {"seed": 5})
        assert (response.provider, response.model) == ("p", "p:m")
        assert response.metadata.finish_reason is None
        assert await text(response) == "one two"
        metadata = response.metadata
        assert (metadata.token_count, metadata.prompt_tokens, metadata.finish_reason) == (2, 3, "stop")
        assert (metadata.model_provider, metadata.fallback) == ("p", None)
        assert metadata.processing_time == response.metadata.processing_time > 0
        assert [one.content for one in provider.requests[0].messages] == ["x", "hi"]
        assert provider.requests[0].options == ChatOptions(seed=5)
        assert router.get_supported_providers() == ["p"]

    run(test)


@pytest.mark.parametrize("read", [0, 1])
def test_closing_ends_the_generation(read: int) -> None:
    async def test() -> None:
        provider = Scripted("p", ["m"], [["one", None]])
        response = await (await router_of(provider)).route_stream_request("p:m", "hi")
        for _ in range(read):
            assert await anext(response.content) == "one"
        await response.content.aclose()
        assert provider.ended == 1
        await response.content.aclose()
        await provider.idle()

    run(test)


def test_cancelling_the_request_ends_the_generation() -> None:
    async def test() -> None:
        provider = Scripted("p", ["m"], [[None]])
        router = await router_of(provider)
        task = asyncio.create_task(router.route_stream_request("p:m", "hi"))
        await until(lambda: provider.requests)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert provider.ended == 1

    run(test)


@pytest.mark.parametrize("script", [["one", None], [None]])
def test_a_termination_check_ends_it(script: list[Any]) -> None:
    async def test() -> None:
        provider = Scripted("p", ["m"], [script])
        router = await router_of(provider)
        response = await router.route_stream_request("p:m", "hi", termination_check=lambda: bool(provider.requests))
        assert await text(response) in ("one", "")
        assert response.metadata.finish_reason == "terminated"
        assert provider.ended == 1

    run(test)


@pytest.mark.parametrize("error", [GONE, WorkerDiedError("it died", hint="Again.", should_retry=True)])
def test_a_request_that_was_not_answered_is_sent_again(error: Exception) -> None:
    async def test() -> None:
        provider = Scripted("p", ["m"], [[error], [error], ANSWER])
        response = await (await router_of(provider, retry_attempts=2)).route_stream_request("p:m", "hi")
        assert await text(response) == "one two"
        assert len(provider.requests) == 3
        assert response.metadata.fallback is None

    run(test)


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ([ProviderUnavailableError("busy", hint="Wait.", status=503)], ProviderUnavailableError),
        ([ProviderError("broken", hint="Look.", status=500)], ProviderError),
        ([WorkerDiedError("it died", hint="Again.", should_retry=False)], WorkerDiedError),
        ([InputError("bad", hint="Change it.")], InputError),
        ([ValueError("a bug")], ProviderError),
        ([TimeoutError("of its own")], ProviderError),
        ([], ProviderError),
    ],
)
def test_other_errors_are_not_tried_again(script: list[Any], kind: type[Exception]) -> None:
    async def test() -> None:
        provider = Scripted("p", ["m"], [script, ANSWER])
        with pytest.raises(kind):
            await (await router_of(provider)).route_stream_request("p:m", "hi")
        assert len(provider.requests) == provider.ended == 1

    run(test)


@pytest.mark.parametrize("error", [GONE, WorkerDiedError("it died", hint="Again.", should_retry=True), ValueError("x")])
def test_an_answer_that_breaks_off_is_an_error_and_not_sent_again(error: Exception) -> None:
    async def test() -> None:
        provider = Scripted("p", ["m"], [["one", error], ANSWER])
        response = await (await router_of(provider)).route_stream_request("p:m", "hi")
        seen = []
        with pytest.raises((ProviderError, WorkerDiedError)):
            async for piece in response.content:
                seen.append(piece)
        assert (seen, len(provider.requests)) == (["one"], 1)

    run(test)


def test_retries_end_after_the_configured_number() -> None:
    async def test() -> None:
        provider = Scripted("p", ["m", "n"], [[GONE]])
        models = {"p:n": ModelConfig(model_name="p:n", provider="p", retry_attempts=1)}
        router = await router_of(provider, retry_attempts=2, models=models)
        with pytest.raises(ProviderUnavailableError):
            await router.route_stream_request("p:m", "hi")
        assert len(provider.requests) == 3
        with pytest.raises(ProviderUnavailableError):
            await router.route_stream_request("p:n", "hi")
        assert len(provider.requests) == 5

    run(test)


def test_a_termination_check_ends_the_wait_between_two_tries() -> None:
    async def test() -> None:
        provider = Scripted("p", ["m"], [[GONE]])
        router = await router_of(provider, retry_delay_ms=100_000)
        response = await router.route_stream_request("p:m", "hi", termination_check=lambda: bool(provider.requests))
        assert await text(response) == ""
        assert response.metadata.finish_reason == "terminated"

    run(test)


def test_time_is_limited() -> None:
    async def test() -> None:
        provider = Scripted("p", ["silent", "slow"], [[None], ["one", None]])
        router = await router_of(provider, stream_timeout_ms=50)
        with pytest.raises(ProviderUnavailableError, match=r"did not begin to answer within 0\.05 s"):
            await router.route_stream_request("p:silent", "hi")
        router = await router_of(provider, stream_timeout_ms=1000)
        response = await router.route_stream_request("p:slow", "hi")
        with pytest.raises(DeadlineError, match="was not complete"):
            await text(response)
        assert provider.ended == 2

    run(test)


def test_the_limit_of_a_model_is_before_that_of_all() -> None:
    async def test() -> None:
        provider = Scripted("p", ["m"], [[None]])
        models = {"p:m": ModelConfig(model_name="p:m", provider="p", timeout_ms=20)}
        with pytest.raises(ProviderUnavailableError, match=r"within 0\.02 s"):
            await (await router_of(provider, models=models)).route_stream_request("p:m", "hi")
        with pytest.raises(ProviderUnavailableError, match=r"within 0\.03 s"):
            router = await router_of(provider, model_defaults={"timeout_ms": 30})
            await router.route_stream_request("p:m", "hi")

    run(test)


def fallbacks(*names: str) -> dict[str, ModelConfig]:
    return {"a:m": ModelConfig(model_name="a:m", provider="a", retry_attempts=0, fallback_models=names)}


def test_a_configured_fallback_answers_and_says_so() -> None:
    async def test() -> None:
        a, b = Scripted("a", ["m"], [[GONE]]), Scripted("b", ["x"])
        router = await router_of(a, b, models=fallbacks("b:absent", "nobody:z", "b:x"))
        response = await router.route_stream_request("a:m", "hi")
        assert (response.provider, response.model, await text(response)) == ("b", "b:x", "one two")
        fallback = response.metadata.fallback
        assert fallback is not None
        assert fallback.startswith("a:m could not answer: nobody is there; b:absent could not answer:")
        assert fallback.endswith("; b:x answers in its place")

    run(test)


def test_without_a_configured_fallback_there_is_none() -> None:
    async def test() -> None:
        a, b = Scripted("a", ["m"], [[GONE]]), Scripted("b", ["m"])
        router = await router_of(a, b, retry_attempts=0)
        with pytest.raises(ProviderUnavailableError):
            await router.route_stream_request("a:m", "hi")
        assert not b.requests

    run(test)


def test_where_fallbacks_fail_too_the_error_is_that_of_the_model() -> None:
    async def test() -> None:
        a, b = Scripted("a", ["m"], [[GONE]]), Scripted("b")
        with pytest.raises(ProviderUnavailableError, match="nobody is there") as caught:
            await (await router_of(a, b, models=fallbacks("b:x"))).route_stream_request("a:m", "hi")
        assert "b:x could not answer: b has no model x" in str(caught.value.hint)

    run(test)


@pytest.mark.parametrize("error", [InputError("bad", hint="x"), UsageError("bad", hint="x")])
def test_a_fault_of_the_request_is_not_answered_by_another_model(error: Exception) -> None:
    async def test() -> None:
        a, b = Scripted("a", ["m"], [[error]]), Scripted("b", ["x"])
        with pytest.raises(type(error)):
            await (await router_of(a, b, models=fallbacks("b:x"))).route_stream_request("a:m", "hi")
        assert not b.requests

    run(test)


def test_images_to_a_text_model_are_refused_or_dropped_as_configured() -> None:
    async def test() -> None:
        provider = Scripted("p", ["text", "see-vision"])
        with pytest.raises(InputError, match="does not read images"):
            await (await router_of(provider)).route_stream_request("p:text", "hi", images=[PICTURE])
        router = await router_of(provider, images_for_text_models="drop")
        history = [Message(role="user", content="a", images=(PICTURE,))]
        response = await router.route_stream_request("p:text", "hi", history, images=[PICTURE])
        assert await text(response) == "one two"
        assert response.metadata.fallback == "p:text does not read images and answers the text alone"
        assert not any(one.images for one in provider.requests[-1].messages)
        response = await router.route_stream_request("p:see-vision", "hi", images=[PICTURE])
        assert await text(response) == "one two"
        assert response.metadata.fallback is None
        assert provider.requests[-1].messages[-1].images == (PICTURE,)

    run(test)


def test_options_of_the_model_are_used_where_a_request_has_none() -> None:
    async def test() -> None:
        provider = Scripted("p", ["m"])
        defaults = ChatOptions(temperature=0.5, max_tokens=9, stop=("x",))
        models = {"p:m": ModelConfig(model_name="p:m", provider="p", options=defaults)}
        router = await router_of(provider, models=models)
        await text(await router.route_stream_request("p:m", "hi", options={"temperature": 0, "seed": 1}))
        assert provider.requests[0].options == ChatOptions(temperature=0, seed=1, max_tokens=9, stop=("x",))

    run(test)


@pytest.mark.parametrize(
    ("model", "default", "kind"),
    [
        ("p:none", None, ModelNotFoundError),
        ("nobody:m", None, ProviderNotFoundError),
        ("nobody:m", "p", ProviderNotFoundError),
        ("m:other", "p", ModelNotFoundError),
        ("none", "p", ModelNotFoundError),
    ],
)
def test_unknown_models(model: str, default: str | None, kind: type[Exception]) -> None:
    async def test() -> None:
        router = await router_of(Scripted("p", ["m:tag"]), default_provider=default)
        with pytest.raises(kind):
            await router.route_stream_request(model, "hi")
        result = await router.validate_model_provider(model)
        assert not result.valid
        assert result.errors

    run(test)


def test_validation_of_models() -> None:
    async def test() -> None:
        gone, fine = Scripted("gone", priority=1), Scripted("fine", ["m"], priority=2)
        router = await router_of(gone, fine)
        await router._registry.lists()
        gone.list_error = GONE
        assert await router.validate_model_provider("fine:m") == ValidationResult(valid=True)
        assert (await router.validate_model_provider("m")).warnings == ("gone did not answer: nobody is there",)
        assert (await router.validate_model_provider("gone:m")).errors == ("nobody is there",)
        response = await router.route_stream_request("m", "hi")
        assert response.metadata.fallback == "gone did not answer: nobody is there"
        await response.content.aclose()

    run(test)


def test_a_changed_configuration_is_in_force_for_the_next_request() -> None:
    async def test() -> None:
        provider = Scripted("p", ["m"])
        fixed = Fixed(ChatConfiguration(images_for_text_models="drop"))
        router = StreamMessageRouter(await registry_of(provider), fixed)
        await text(await router.route_stream_request("p:m", "hi", images=[PICTURE]))
        fixed.current = ChatConfiguration()
        with pytest.raises(InputError):
            await router.route_stream_request("p:m", "hi", images=[PICTURE])

    run(test)


def test_the_list_of_all_models_is_searched() -> None:
    async def test() -> None:
        gone = Scripted("gone")
        gone.list_error = GONE
        registry = await registry_of(Scripted("b", ["Llama-3", "gemma-vision"]), Scripted("a", ["llama-2"]), gone)
        models = ModelListAggregator(registry)
        assert [one.name for one in await models.aggregate_model_lists()] == [
            "b:Llama-3",
            "b:gemma-vision",
            "a:llama-2",
        ]
        assert list((await models.lists()).errors) == ["gone"]
        assert [one.name for one in await models.get_models_by_provider("a")] == ["a:llama-2"]
        assert [one.name for one in await models.search_models("LLAMA")] == ["b:Llama-3", "a:llama-2"]
        assert [one.name for one in await models.search_models("llama 3")] == ["b:Llama-3"]
        assert [one.name for one in await models.search_models("", provider="b", supports_vision=True)] == [
            "b:gemma-vision"
        ]
        assert len(await models.search_models("")) == 3
        assert (await models.get_model_details("llama-2")).info.name == "a:llama-2"
        with pytest.raises(ModelNotFoundError):
            await models.get_model_details("a:llama-3")
        with pytest.raises(ProviderNotFoundError):
            await models.get_models_by_provider("c")
        with pytest.raises(ProviderUnavailableError):
            await models.search_models("", provider="gone")

    run(test)
