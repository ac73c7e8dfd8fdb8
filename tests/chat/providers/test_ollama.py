"""The provider of Ollama, against a server of its API with faults."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest

from gpux.chat.provider import ProviderSetup
from gpux.chat.providers.ollama import OllamaProvider, ollama_url
from gpux.chat.providers.router import StreamMessageRouter
from gpux.chat.values import (
    ChatConfiguration,
    ChatOptions,
    ChatRequest,
    Delta,
    Finished,
    Image,
    Message,
    ProviderConfig,
)
from gpux.errors import (
    ConfigurationError,
    GpuxError,
    InputError,
    ModelNotFoundError,
    ProviderAccessError,
    ProviderError,
    ProviderUnavailableError,
)
from gpux.system.settings import Settings
from tests.chat.providers.scripted import Fixed, registry_of
from tests.ollama.models import UNICODE
from tests.ollama.running import RunningOllama, running_ollama
from tests.waiting import until

PICTURE = Image(data=b"\x89PNG\r\n\x1a\n and more", media_type="image/png")


def provider_of(url: str | None, *, stream_timeout_ms: int = 60_000, **config: Any) -> OllamaProvider:
    given = ProviderConfig(name="ollama", base_url=url, **config)
    configuration = ChatConfiguration(stream_timeout_ms=stream_timeout_ms, retry_delay_ms=1)
    return OllamaProvider(ProviderSetup(given, configuration, Settings.from_env()))


def using(provider: OllamaProvider, test: Callable[[OllamaProvider], Awaitable[Any]]) -> Any:
    """What the test returns; the provider is closed after it."""

    async def run() -> Any:
        async with aclosing(provider), asyncio.timeout(60):
            return await test(provider)

    return asyncio.run(run())


def ask(provider: OllamaProvider, model: str, text: str = "hi", **options: Any) -> str:
    return str(using(provider, lambda one: one.generate_response(model, text, options=options)))


async def pieces_of(provider: OllamaProvider, request: ChatRequest) -> list[Delta | Finished]:
    return [piece async for piece in provider.answer(request)]


def request(model: str, *texts: str, options: ChatOptions | None = None) -> ChatRequest:
    messages = tuple(Message(role="user", content=text) for text in texts or ("hi",))
    return ChatRequest(model=model, messages=messages, options=options or ChatOptions())


HOSTS = {
    "": "http://127.0.0.1:11434",
    "1.2.3.4": "http://1.2.3.4:11434",
    ":1234": "http://127.0.0.1:1234",
    "1.2.3.4:1234": "http://1.2.3.4:1234",
    "example.com": "http://example.com:11434",
    "example.com:1234": "http://example.com:1234",
    "example.com:": "http://example.com:11434",
    "[::1]": "http://[::1]:11434",
    "::1": "http://[::1]:11434",
    "[::1]:1337": "http://[::1]:1337",
    "[::]": "http://[::1]:11434",
    "0.0.0.0": "http://127.0.0.1:11434",
    "0.0.0.0:8080": "http://127.0.0.1:8080",
    " 1.2.3.4 ": "http://1.2.3.4:11434",
    '"1.2.3.4"': "http://1.2.3.4:11434",
    ' " 1.2.3.4 " ': "http://1.2.3.4:11434",
    "'1.2.3.4'": "http://1.2.3.4:11434",
    "http://1.2.3.4": "http://1.2.3.4:80",
    "http://1.2.3.4:4321": "http://1.2.3.4:4321",
    "HTTP://1.2.3.4:4321/": "http://1.2.3.4:4321",
    "https://1.2.3.4": "https://1.2.3.4:443",
    "https://1.2.3.4:4321": "https://1.2.3.4:4321",
    "https://example.com/ollama": "https://example.com:443/ollama",
    "https://example.com/ollama/": "https://example.com:443/ollama",
    "ollama.com": "https://ollama.com:443",
}


@pytest.mark.parametrize(("given", "url"), HOSTS.items())
def test_every_form_of_ollama_host(given: str, url: str) -> None:
    assert ollama_url(given, ProviderConfig(name="ollama")) == url


@pytest.mark.parametrize(
    "given",
    [
        ":66000",
        ":-1",
        ":0",
        "host:port",
        "ftp://host",
        "http://user:word@host",
        "http://host?x=1",
        "a b",
        "\x00",
    ],
)
def test_other_addresses_are_an_error_of_the_configuration(given: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ollama_url(given, ProviderConfig(name="mine"))
    assert caught.value.details["key"] == "providers.mine.base_url"
    assert "word" not in str(caught.value)


def test_the_address_is_that_of_the_variable(ollama: RunningOllama, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", ollama.url.removeprefix("http://"))
    assert ask(provider_of(None), "echo", "one two") == "one two"


def test_an_answer_comes_in_pieces_with_its_counts(ollama: RunningOllama) -> None:
    found = using(provider_of(ollama.url), lambda one: pieces_of(one, request("ollama:echo", "one two three")))
    assert found[:-1] == [Delta(text="one"), Delta(text=" two"), Delta(text=" three")]
    assert found[-1] == Finished(reason="stop", prompt_tokens=13, completion_tokens=3)


def test_reasoning_comes_apart(ollama: RunningOllama) -> None:
    found = using(provider_of(ollama.url), lambda one: pieces_of(one, request("thinking", "yes")))
    assert "".join(piece.reasoning for piece in found[:-1]) == "Let me think. Yes."
    assert "".join(piece.text for piece in found[:-1]) == "yes"
    assert ask(provider_of(ollama.url), "thinking", "yes") == "yes"


def test_any_text_arrives_unchanged(ollama: RunningOllama) -> None:
    assert ask(provider_of(ollama.url), "unicode") == UNICODE
    assert ask(provider_of(ollama.url), "echo", UNICODE) == UNICODE


def test_only_the_given_options_are_sent_under_ollamas_names(ollama: RunningOllama) -> None:
    ask(provider_of(ollama.url), "letters", "a", max_tokens=5)
    assert ollama.state()["bodies"][-1] == {
        "model": "letters",
        "messages": [{"role": "user", "content": "a"}],
        "options": {"num_predict": 5},
    }
    options: dict[str, Any] = {
        "temperature": 0,
        "top_p": 0.5,
        "top_k": 3,
        "min_p": 0.1,
        "max_tokens": 4,
        "stop": ["x", "yz"],
        "seed": 7,
        "presence_penalty": 1,
        "frequency_penalty": -1,
        "repetition_penalty": 1.1,
    }
    ask(provider_of(ollama.url), "letters", "a", **options)
    assert ollama.state()["bodies"][-1]["options"] == {
        "temperature": 0,
        "top_p": 0.5,
        "top_k": 3,
        "min_p": 0.1,
        "num_predict": 4,
        "stop": ["x", "yz"],
        "seed": 7,
        "presence_penalty": 1,
        "frequency_penalty": -1,
        "repeat_penalty": 1.1,
    }
    ask(provider_of(ollama.url), "echo")
    assert "options" not in ollama.state()["bodies"][-1]


def test_an_answer_that_reaches_its_limit_says_so(ollama: RunningOllama) -> None:
    asked = request("letters", options=ChatOptions(max_tokens=4))
    found = using(provider_of(ollama.url), lambda one: pieces_of(one, asked))
    assert (len(found), found[-1].reason) == (5, "length")


def test_images_pass_through(ollama: RunningOllama) -> None:
    answer = using(
        provider_of(ollama.url), lambda one: one.process_vision_request("seeing", "what?", [PICTURE, PICTURE])
    )
    assert answer == f"{hashlib.sha256(PICTURE.data).hexdigest()} " * 2 + "what?"
    [message] = ollama.state()["bodies"][-1]["messages"]
    assert message["images"] == [base64.b64encode(PICTURE.data).decode()] * 2
    with pytest.raises(InputError, match="echo does not read images"):
        using(provider_of(ollama.url), lambda one: one.process_vision_request("echo", "what?", [PICTURE]))


def test_models_are_described(ollama: RunningOllama) -> None:
    found = {one.name: one for one in using(provider_of(ollama.url), lambda one: one.model_infos())}
    one = found["ollama:seeing:latest"]
    assert (one.provider, one.display_name, one.description) == ("ollama", "seeing:latest", "llama, 3.2B, Q4_K_M")
    assert one.capabilities.supports_vision
    assert one.capabilities.max_context_length == 64
    assert not found["ollama:echo:latest"].capabilities.supports_vision
    metadata = one.metadata
    assert (metadata.size, metadata.parameters, metadata.architecture) == (3_825_819_519, 3_212_749_888, "llama")
    assert metadata.license == "MIT License"
    assert metadata.last_updated is not None
    assert metadata.last_updated.year == 2026


def test_models_are_found_with_and_without_tag_and_prefix(ollama: RunningOllama) -> None:
    async def test(provider: OllamaProvider) -> None:
        for name in ("echo", "echo:latest", "ollama:echo", "ollama:echo:latest"):
            assert await provider.check_model_exists(name)
        for name in ("absent", "echo:7b", "ollama:absent", ""):
            assert not await provider.check_model_exists(name)
        details = await provider.model_details("echo")
        assert details.details["capabilities"] == ["completion"]

    using(provider_of(ollama.url), test)


def test_models_are_loaded_and_unloaded(ollama: RunningOllama) -> None:
    async def test(provider: OllamaProvider) -> None:
        await provider.load_model("counted")
        assert "ollama:counted:latest" in await provider.loaded_models()
        await provider.unload_model("ollama:counted:latest")
        assert "ollama:counted:latest" not in await provider.loaded_models()
        with pytest.raises(ModelNotFoundError):
            await provider.load_model("absent")

    using(provider_of(ollama.url), test)


FAULTS: dict[str, tuple[type[GpuxError], str, int]] = {
    # model -> the error, a part of its message, and the tokens before it
    "absent": (ModelNotFoundError, "ollama has no model absent", 0),
    "busy": (ProviderUnavailableError, "maximum pending requests exceeded", 0),
    "broken": (ProviderError, "llama runner process has terminated", 0),
    "tests/embedder": (InputError, "does not support chat", 0),
    "cut": (ProviderUnavailableError, "broke off", 3),
    "unfinished": (ProviderUnavailableError, "broke off", 3),
    "error": (ProviderError, "unexpected EOF", 3),
    "garbage": (ProviderError, "Bad Gateway", 3),
    "endless-line": (ProviderError, "line of more than 8 MiB", 3),
}


@pytest.mark.parametrize("model", FAULTS)
def test_every_fault_has_its_error(ollama: RunningOllama, model: str) -> None:
    kind, text, before = FAULTS[model]

    async def test(provider: OllamaProvider) -> None:
        seen = []
        with pytest.raises(kind) as caught:
            async for piece in provider.answer(request(model)):
                seen.append(piece)
        assert type(caught.value) is kind
        assert text in caught.value.message
        assert caught.value.hint
        assert len(seen) == before
        assert await provider.generate_response("echo", "still there") == "still there"

    using(provider_of(ollama.url), test)


@pytest.mark.parametrize("model", ["silent", "stalls"])
def test_an_answer_that_does_not_come_ends_in_time(ollama: RunningOllama, model: str) -> None:
    async def test(provider: OllamaProvider) -> None:
        with pytest.raises(ProviderUnavailableError):
            await provider.generate_response(model, "hi")

    using(provider_of(ollama.url, stream_timeout_ms=300), test)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"

    async def test(provider: OllamaProvider) -> None:
        for call in (provider.list_models, lambda: provider.generate_response("echo", "hi")):
            with pytest.raises(ProviderUnavailableError, match=f"ollama cannot be reached at {url}"):
                await call()
        error = await provider.health_error()
        assert isinstance(error, ProviderUnavailableError)
        assert "status" not in error.details, "the router sends such a request again"

    using(provider_of(url), test)


def test_a_server_that_accepts_and_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with pytest.raises(ProviderUnavailableError, match="did not answer in time"):
            using(provider_of(url, timeout_ms=200), lambda one: one.list_models())


def test_another_server_than_ollama(ollama: RunningOllama) -> None:
    provider = provider_of(f"{ollama.url}/wrong")
    with pytest.raises(ProviderError, match="status 404") as caught:
        using(provider, lambda one: one.generate_response("echo", "hi"))
    assert type(caught.value) is ProviderError
    assert "base_url" in str(caught.value.hint)


def test_a_key_is_sent_and_its_refusal_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", "secret-7")
    monkeypatch.setenv("WRONG_KEY", "wrong-7")
    with running_ollama(["--key", "secret-7"]) as server:
        assert ask(provider_of(server.url, api_key_env="THE_KEY"), "echo", "in") == "in"
        configs: list[dict[str, Any]] = [{}, {"api_key_env": "WRONG_KEY"}]
        for config in configs:
            with pytest.raises(ProviderAccessError) as caught:
                ask(provider_of(server.url, **config), "echo")
            assert "wrong-7" not in str(caught.value.to_dict())


@pytest.mark.parametrize("value", [None, " ", "two words", "line\nbreak", "ümlaut"])
def test_a_key_that_is_missing_or_is_not_one(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is not None:
        monkeypatch.setenv("THE_KEY", value)
    with pytest.raises(ConfigurationError) as caught:
        ask(provider_of("127.0.0.1:1", api_key_env="THE_KEY"), "echo")
    assert caught.value.details["key"] == "providers.ollama.api_key_env"
    assert "words" not in str(caught.value)


def test_a_restarted_server_is_found_again() -> None:
    async def test(provider: OllamaProvider) -> None:
        assert await provider.generate_response("echo", "before") == "before"
        await asyncio.to_thread(server.kill)
        with pytest.raises(ProviderUnavailableError):
            await provider.generate_response("echo", "between")
        await asyncio.to_thread(server.start)
        assert await provider.generate_response("echo", "after") == "after"
        assert await provider.health_check()

    with running_ollama() as server:
        using(provider_of(server.url), test)


def test_a_server_that_dies_in_an_answer() -> None:
    async def test(provider: OllamaProvider) -> None:
        seen = []
        with pytest.raises(ProviderUnavailableError, match="broke off"):
            async for piece in provider.stream_response("dies", "hi"):
                seen.append(piece)
        assert len(seen) == 3
        await asyncio.to_thread(server.wait)
        await asyncio.to_thread(server.start)
        assert await provider.generate_response("echo", "after") == "after"

    with running_ollama() as server:
        using(provider_of(server.url), test)


def test_the_router_waits_for_a_server_that_restarts() -> None:
    async def test(provider: OllamaProvider) -> None:
        configuration = ChatConfiguration(retry_attempts=10, retry_delay_ms=100)
        router = StreamMessageRouter(await registry_of(provider), Fixed(configuration))
        await asyncio.to_thread(server.kill)
        answer = asyncio.create_task(router.route_stream_request("ollama:echo", "back again"))
        await asyncio.to_thread(server.start)
        assert "".join([piece async for piece in (await answer).content]) == "back again"

    with running_ollama() as server:
        using(provider_of(server.url), test)


def test_an_answer_that_is_left_ends_on_the_server(ollama: RunningOllama) -> None:
    async def test(provider: OllamaProvider) -> None:
        for _ in range(5):
            async with aclosing(provider.stream_response("endless", "hi")) as pieces:
                async for _piece in pieces:
                    break
        stopped = [piece async for piece in provider.stream_response("endless", "hi", termination_check=lambda: True)]
        assert stopped == []
        task = asyncio.create_task(provider.generate_response("endless", "hi"))

        async def running() -> int:
            return int((await asyncio.to_thread(ollama.state))["running"])

        async def idle() -> bool:
            return not await running()

        await until(running)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(idle)

    using(provider_of(ollama.url), test)


def test_closing_ends_answers_that_run_with_an_error(ollama: RunningOllama) -> None:
    async def test(provider: OllamaProvider) -> None:
        answer = provider.stream_response("endless", "hi")
        assert await anext(answer)
        await provider.aclose()
        with pytest.raises(ProviderUnavailableError):
            async for _ in answer:
                pass
        assert await provider.generate_response("echo", "again") == "again"

    using(provider_of(ollama.url), test)


def test_a_hundred_conversations_at_the_same_time(ollama: RunningOllama) -> None:
    async def test(provider: OllamaProvider) -> list[str]:
        return await asyncio.gather(
            *(provider.generate_response("slow", f"number {place} of a hundred") for place in range(100))
        )

    assert using(provider_of(ollama.url), test) == [f"number {place} of a hundred" for place in range(100)]


def test_a_connection_is_used_again(ollama: RunningOllama) -> None:
    opened: list[str] = []

    async def test(provider: OllamaProvider) -> None:
        for _ in range(5):
            await provider.generate_response("echo", "hi")
        await provider.list_models()
        connection = provider._connection
        assert connection is not None
        opened.extend(repr(one) for one in connection._client._transport._pool.connections)  # type: ignore[attr-defined]

    using(provider_of(ollama.url), test)
    assert opened
    assert not any("Request Count: 1," in one for one in opened[:1])


def test_a_list_of_a_thousand_models() -> None:
    with running_ollama(["--models", "1000"]) as server:

        async def test(provider: OllamaProvider) -> None:
            found = await provider.model_infos()
            assert len({one.name for one in found}) >= 1000

        using(provider_of(server.url), test)


def test_a_long_history_and_a_large_message(ollama: RunningOllama) -> None:
    async def test(provider: OllamaProvider) -> None:
        history = [Message(role="user" if place % 2 else "assistant", content=f"m{place}") for place in range(200)]
        assert await provider.generate_response("counted", "last", history) == "201 messages from m0 to last"
        assert len(await provider.generate_response("letters", "a" * (10 << 20), options={"max_tokens": 3})) == 3

    using(provider_of(ollama.url), test)
