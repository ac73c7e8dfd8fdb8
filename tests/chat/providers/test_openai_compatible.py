"""The provider of servers with OpenAI's API: what is sent, every form of answer that such servers have, and errors."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import keyring
import keyring.backend
import pytest

from gpux.chat.conformance import setup
from gpux.chat.provider import History
from gpux.chat.providers.openai_compatible import OpenAICompatibleProvider
from gpux.chat.values import ChatConfiguration, ChatOptions, ChatRequest, Delta, Finished, Image, Message
from gpux.errors import (
    ConfigurationError,
    GpuxError,
    InputError,
    ModelNotFoundError,
    ProviderAccessError,
    ProviderError,
    ProviderUnavailableError,
    StorageError,
)
from tests.chat.providers.canned import DONE, Canned, chunk, chunked, event, head, response
from tests.huggingface.test_network import certificate  # noqa: F401 - a fixture
from tests.ollama.models import UNICODE

CHAT = "POST /v1/chat/completions"
PICTURE = Image(data=b"\x89PNG\r\n\x1a\n and more", media_type="image/png")
ASK = ChatRequest(model="m", messages=(Message(role="user", content="hi"),))


def using(
    canned: Canned, test: Callable[[OpenAICompatibleProvider], Awaitable[Any]], path: str = "/v1", **config: Any
) -> Any:
    """What the test returns, with a provider of the server."""

    async def run() -> Any:
        async with canned.running(), asyncio.timeout(60):
            given = {"base_url": f"{canned.url}{path}", **config}
            configuration = ChatConfiguration(stream_timeout_ms=config.pop("stream_timeout_ms", 30_000))
            given.pop("stream_timeout_ms", None)
            provider = OpenAICompatibleProvider(setup("mine", configuration, **given))
            async with aclosing(provider):
                return await test(provider)

    return asyncio.run(run())


def answered(*parts: bytes | None, **config: Any) -> list[Delta | Finished]:
    """The pieces of an answer that the server sends in these parts."""
    canned = Canned()
    canned.answer(CHAT, *parts)

    async def test(provider: OpenAICompatibleProvider) -> list[Delta | Finished]:
        return [piece async for piece in provider.answer(ASK)]

    found: list[Delta | Finished] = using(canned, test, **config)
    return found


def test_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", "secret-7")
    canned = Canned()
    canned.answer(CHAT, head(), chunk("a"), chunk(reason="stop"), DONE)
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 3, "stop": ["x"], "seed": 1, "top_k": 4, "min_p": 0.1}

    async def test(provider: OpenAICompatibleProvider) -> None:
        history: History = [{"role": "system", "content": "Be brief."}, Message(role="assistant", content="ok")]
        assert await provider.generate_response("openai:m", "hi", history, options) == "a"
        await provider.generate_response("m", "hi")

    using(canned, test, api_key_env="THE_KEY")
    first, second = canned.requests
    assert first.headers["authorization"] == "Bearer secret-7"
    assert first.body == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "assistant", "content": "ok"},
            {"role": "user", "content": "hi"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        **options,
    }
    assert set(second.body) == {"model", "messages", "stream", "stream_options"}


def test_images_are_data_urls() -> None:
    canned = Canned()
    canned.answer(CHAT, head(), chunk("a cat", "stop"), DONE)
    canned.answer(
        "GET /v1/models", response({"data": [{"id": "m"}, {"id": "blind", "capabilities": {"vision": False}}]})
    )

    async def test(provider: OpenAICompatibleProvider) -> None:
        assert await provider.process_vision_request("m", "what?", [PICTURE]) == "a cat"
        with pytest.raises(InputError, match="blind does not read images"):
            await provider.process_vision_request("blind", "what?", [PICTURE])

    using(canned, test)
    [message] = canned.requests[-2].body["messages"]
    url = f"data:image/png;base64,{base64.b64encode(PICTURE.data).decode()}"
    assert message["content"] == [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": url}}]


USAGE = event({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}})
ROLE = chunk("", role="assistant")
TWO = [Delta(text="one"), Delta(text=" two")]
FORMS: dict[str, tuple[list[bytes], list[Delta | Finished]]] = {
    "of openai": (
        [head(), ROLE, chunk("one"), chunk(" two"), chunk(reason="stop"), USAGE, DONE],
        [*TWO, Finished(reason="stop", prompt_tokens=5, completion_tokens=2)],
    ),
    "without usage and end": ([head(), chunk("one"), chunk(" two", "length")], [*TWO, Finished(reason="length")]),
    "with comments, names and ids": (
        [
            head(),
            b": ping\n\n",
            b"event: message\nid: 4\nretry: 5\n",
            chunk("one"),
            b":\n",
            chunk(" two", "stop"),
            DONE,
        ],
        [*TWO, Finished(reason="stop")],
    ),
    "with CRLF": (
        [
            part.replace(b"\n", b"\r\n") if number else part
            for number, part in enumerate([head(), chunk("one"), chunk(" two", "eos"), DONE])
        ],
        [*TWO, Finished(reason="stop")],
    ),
    "split in bytes": (
        [head(), *(bytes([one]) for one in chunk(UNICODE)), chunk(reason="stop"), DONE],
        [Delta(text=UNICODE), Finished(reason="stop")],
    ),
    "without a space": (
        [head(), chunk("one", "stop").replace(b"data: ", b"data:"), b"data:[DONE]\n\n"],
        [TWO[0], Finished(reason="stop")],
    ),
    "reasoning apart": (
        [head(), chunk(reasoning_content="hm"), chunk(reasoning="so"), chunk("one", "stop"), DONE],
        [Delta(reasoning="hm"), Delta(reasoning="so"), TWO[0], Finished(reason="stop")],
    ),
    "content in parts": (
        [head(), chunk(content=[{"type": "text", "text": "one"}, {"type": "other"}]), chunk(reason="stop"), DONE],
        [TWO[0], Finished(reason="stop")],
    ),
    "a call of a tool, filtered": (
        [head(), chunk(tool_calls=[{"index": 0}]), chunk(reason="content_filter"), DONE],
        [Finished(reason="stop")],
    ),
    "nulls": (
        [head(), event({"choices": None, "usage": None}), chunk("one", "stop"), DONE],
        [TWO[0], Finished(reason="stop")],
    ),
    "a server that does not stream": (
        [
            response(
                {
                    "choices": [{"message": {"role": "assistant", "content": "one"}, "finish_reason": "length"}],
                    "usage": {"prompt_tokens": 5, "completion_tokens": 1},
                }
            )
        ],
        [TWO[0], Finished(reason="length", prompt_tokens=5, completion_tokens=1)],
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_answer(form: str) -> None:
    sent, found = FORMS[form]
    assert answered(*sent) == found


REFUSALS: dict[str, tuple[list[bytes | None], type[GpuxError], str]] = {
    "a missing model": ([response({"error": {"message": "no m"}}, 404)], ModelNotFoundError, "mine has no model m"),
    "a missing path": ([response(b"<html>404</html>", 404)], ProviderError, "status 404"),
    "a refused key": (
        [response({"error": {"message": "Incorrect API key: secret-7"}}, 401)],
        ProviderAccessError,
        r"\*\*\*",
    ),
    "a key without a right": ([response({"error": "forbidden"}, 403)], ProviderAccessError, "forbidden"),
    "a refused option": ([response({"error": {"message": "unknown top_k"}}, 400)], InputError, "unknown top_k"),
    "FastAPI's errors": ([response({"detail": [{"msg": "top_k"}]}, 422)], InputError, "top_k"),
    "too many requests": (
        [response({"error": {"message": "slow down"}}, 429, retry_after="7")],
        ProviderUnavailableError,
        "slow down",
    ),
    "a full server": ([response(b"busy", 503)], ProviderUnavailableError, "status 503"),
    "a failure": ([response({"error": {"message": "out of memory"}}, 500)], ProviderError, "out of memory"),
    "a redirect": ([response(b"", 307, location="http://example.com/")], ProviderError, "status 307"),
    "an error in the stream": (
        [head(), chunk("one"), event({"error": {"message": "CUDA\n error"}})],
        ProviderError,
        "CUDA  error",
    ),
    "an error as a text": ([head(), event({"error": "gone"})], ProviderError, "gone"),
    "an error without a form": ([head(), b'{"error": {"code": 5}}\n'], ProviderError, '{"code":5}'),
    "no end": ([head(), chunk("one"), DONE], ProviderUnavailableError, "broke off"),
    "a cut connection": ([chunked(chunk("one"), b"data: {")], ProviderUnavailableError, "broke off"),
    "no JSON": ([head(), b"data: <html>\n\n"], ProviderError, "<html>"),
    "another form": ([head(), event({"choices": "x"})], ProviderError, "form that is not of its API"),
    "no HTTP": ([b"SSH-2.0-OpenSSH_9.6\r\n"], ProviderUnavailableError, "cannot be reached"),
    "a closed connection": ([b""], ProviderUnavailableError, "cannot be reached"),
    "no answer": ([None], ProviderUnavailableError, "did not answer in time"),
    "no further piece": ([head(), chunk("one"), None], ProviderUnavailableError, "broke off"),
    "no text": ([response({"hello": "world"})], ProviderUnavailableError, "broke off"),
}


@pytest.mark.parametrize("fault", REFUSALS)
def test_every_fault_has_its_error(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", "secret-7")
    sent, kind, text = REFUSALS[fault]
    with pytest.raises(kind, match=text) as caught:
        answered(*sent, api_key_env="THE_KEY", stream_timeout_ms=1000 if None in sent else 30_000)
    assert type(caught.value) is kind
    assert caught.value.hint
    assert "secret-7" not in str(caught.value.to_dict())
    if "too many" in fault:
        assert caught.value.details["retry_after"] == 7


def test_a_server_that_refuses_stream_options_is_not_sent_them_again() -> None:
    canned = Canned()
    canned.answer(CHAT, response({"message": "extra field: stream_options"}, 422))
    canned.answer(CHAT, head(), chunk("one", "stop"), DONE)

    async def test(provider: OpenAICompatibleProvider) -> None:
        assert await provider.generate_response("m", "hi") == "one"
        assert await provider.generate_response("m", "hi") == "one"

    using(canned, test)
    assert ["stream_options" in one.body for one in canned.requests] == [True, False, False]


def test_lists_of_several_servers() -> None:
    canned = Canned()
    data: list[Any] = [
        {"id": "gpt", "object": "model", "created": 1_700_000_000, "owned_by": "openai"},
        {"id": "org/vllm", "max_model_len": 4096, "created": 0},
        {"id": "router", "context_length": 8192, "architecture": {"input_modalities": ["text", "image"]}},
        {"id": "text", "architecture": {"input_modalities": ["text"]}, "created": 1 << 60},
        {"id": "mistral", "capabilities": {"vision": False}, "max_context_length": 32768},
        {"id": "studio", "type": "llm", "loaded_context_length": 2048, "max_context_length": 4096},
        {"id": "llama", "meta": {"n_ctx_train": 512}, "capabilities": ["completion"]},
        *({"id": ""}, {"id": 5}, {}, "x", None),
    ]
    canned.answer("GET /v1/models", response({"object": "list", "data": data}))
    found = {one.display_name: one for one in using(canned, lambda one: one.model_infos(), prefix="far:")}
    contexts = {name: one.capabilities.max_context_length for name, one in found.items()}
    assert contexts == {
        "gpt": None,
        "org/vllm": 4096,
        "router": 8192,
        "text": None,
        "mistral": 32768,
        "studio": 2048,
        "llama": 512,
    }
    assert {name for name, one in found.items() if one.capabilities.supports_vision} == {"gpt", "org/vllm", "router"}
    gpt = found["gpt"]
    assert (gpt.name, gpt.provider, gpt.description) == ("far:gpt", "mine", "openai")
    assert gpt.metadata.last_updated is not None
    assert gpt.metadata.last_updated.year == 2023


@pytest.mark.parametrize("body", [{"data": None}, {}, {"data": {}}])
def test_an_empty_list(body: Any) -> None:
    canned = Canned()
    canned.answer("GET /v1/models", response(body))
    assert using(canned, lambda one: one.list_models()) == []


@pytest.mark.parametrize("body", [b"[]", b"<html>", b"", b'"x"'])
def test_another_server_than_openais(body: bytes) -> None:
    canned = Canned()
    canned.answer("GET /v1/models", response(body))
    with pytest.raises(ProviderError, match="form that is not of its API") as caught:
        using(canned, lambda one: one.list_models())
    assert "base_url" in str(caught.value.hint)


def test_an_answer_without_an_end_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpux.chat.providers.connection.LARGEST", 1 << 20)
    canned = Canned()
    canned.answer("GET /v1/models", response(b" " * (2 << 20)))
    with pytest.raises(ProviderError, match="larger than 1 MiB"):
        using(canned, lambda one: one.list_models())


def test_a_model_that_is_not_listed_has_a_path_of_its_own() -> None:
    canned = Canned()
    canned.answer("GET /v1/models", response({"data": []}))
    canned.answer("GET /v1/models/org%2Ftuned", response({"id": "org/tuned", "max_model_len": 9}))
    canned.answer("GET /v1/models/absent", response({"error": {"message": "no"}}, 404))
    canned.answer("GET /v1/models/odd", response(b"", 405))

    async def test(provider: OpenAICompatibleProvider) -> None:
        assert (await provider.model_info("openai:org/tuned")).capabilities.max_context_length == 9
        for name in ("absent", "odd", "", ".", ".."):
            assert not await provider.check_model_exists(name)

    using(canned, test)


def test_openais_own_server_gets_its_own_key_and_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-7")

    async def headers(url: str | None) -> Any:
        provider = OpenAICompatibleProvider(setup("openai", base_url=url))
        async with aclosing(provider):
            await provider.initialize()
            connection = provider._connection
            assert connection is not None
            body = provider._body(connection, ChatRequest(model="m", messages=(), options=ChatOptions(max_tokens=3)))
            return connection.url, connection._client.headers.get("authorization"), sorted(body)

    fields = ["messages", "model", "stream", "stream_options"]
    own = ("https://api.openai.com/v1", "Bearer secret-7", sorted([*fields, "max_completion_tokens"]))
    assert asyncio.run(headers(None)) == own
    assert asyncio.run(headers("https://api.openai.com/v1/")) == own
    for url in ("http://127.0.0.1:9/v1", "http://api.openai.com/v1", "https://api.openai.com.example/v1"):
        assert asyncio.run(headers(url)) == (url, None, sorted([*fields, "max_tokens"]))


class Ring(keyring.backend.KeyringBackend):
    """A key store in memory."""

    priority = 1

    def get_password(self, service: str, username: str) -> str | None:
        if username == "locked":
            raise keyring.errors.KeyringLocked("locked")
        return {("gpux", "far"): "ring-7"}.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        raise NotImplementedError


@pytest.fixture
def ring() -> Any:
    before = keyring.get_keyring()
    keyring.set_keyring(Ring())  # type: ignore[no-untyped-call]
    yield
    keyring.set_keyring(before)


@pytest.mark.usefixtures("ring")
def test_the_key_may_be_in_the_key_store() -> None:
    canned = Canned()
    canned.answer(CHAT, head(), chunk("one", "stop"), DONE)
    assert using(canned, lambda one: one.generate_response("m", "hi"), api_key_keyring="far") == "one"
    assert canned.requests[0].headers["authorization"] == "Bearer ring-7"
    with pytest.raises(ConfigurationError, match="the entry absent of the key store") as caught:
        using(canned, lambda one: one.generate_response("m", "hi"), api_key_keyring="absent")
    assert "keyring set gpux absent" in str(caught.value.hint)
    with pytest.raises(StorageError, match="locked"):
        using(canned, lambda one: one.generate_response("m", "hi"), api_key_keyring="locked")


@pytest.mark.parametrize(
    "url",
    ["example.com/v1", "ftp://example.com", "http://", "http://user:word@example.com/v1", "http://a b", "http://h:0"],
)
def test_a_wrong_address_is_an_error_of_the_configuration(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        using(Canned(), lambda one: one.list_models(), base_url=url)
    assert caught.value.details["key"] == "providers.mine.base_url"
    assert "word" not in str(caught.value)


def test_a_wrong_address_costs_the_health_of_its_provider_alone() -> None:
    error = using(Canned(), lambda one: one.health_error(), base_url="nonsense")
    assert isinstance(error, ConfigurationError)


def test_certificates_that_the_environment_trusts(
    certificate: tuple[Path, Path],  # noqa: F811 - a fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    canned = Canned()
    canned.answer("GET /v1/models", response({"data": [{"id": "safe"}]}))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    async def listed() -> list[str]:
        async with canned.running(context):
            provider = OpenAICompatibleProvider(setup("far", base_url=f"{canned.url}/v1"))
            async with aclosing(provider):
                return await provider.list_models()

    with pytest.raises(ProviderUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        asyncio.run(listed())
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    assert asyncio.run(listed()) == ["openai:safe"]


def test_the_proxy_of_the_environment_is_used_for_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    canned = Canned()
    canned.answer("POST http://far.example/v1/chat/completions", head(), chunk("by the proxy", "stop"), DONE)

    async def test() -> str:
        async with canned.running():
            monkeypatch.setenv("http_proxy", canned.url)
            provider = OpenAICompatibleProvider(setup("far", base_url="http://far.example/v1"))
            async with aclosing(provider):
                return await provider.generate_response("m", "hi")

    assert asyncio.run(test()) == "by the proxy"
