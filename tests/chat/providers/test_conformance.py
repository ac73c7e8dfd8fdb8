"""The conformance suite on gpux's clients of other servers, on servers of two kinds; and that it finds faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gpux.chat.conformance import ProviderConformance, setup
from gpux.chat.provider import ModelProvider, ProviderSetup
from gpux.chat.providers.hugging_face import HuggingFaceProvider
from gpux.chat.providers.ollama import OllamaProvider
from gpux.chat.providers.openai_compatible import OpenAICompatibleProvider
from gpux.chat.values import ChatConfiguration, ChatRequest, Delta, Finished, ModelInfo, ProviderConfig
from gpux.errors import ModelNotFoundError
from gpux.server.core import Core
from gpux.server.settings import ServerSettings
from gpux.system.settings import Settings
from tests.chat.providers.scripted import Scripted
from tests.ollama.models import UNICODE
from tests.ollama.running import RunningOllama
from tests.server.running import RECITER, Running


class TestOllama(ProviderConformance):
    model = "letters"
    exact_model = "unicode"
    exact_text = UNICODE
    vision_model = "seeing"

    @pytest.fixture(autouse=True)
    def _server(self, ollama: RunningOllama) -> None:
        self.url = ollama.url

    def make(self) -> ModelProvider:
        return OllamaProvider(setup("ollama", base_url=self.url))


class OnGpux(ProviderConformance):
    """Shared by the two clients of gpux's own server."""

    model = RECITER
    message = "Count."

    @pytest.fixture(autouse=True)
    def _server(self, gpux_server: Running) -> None:
        self.url = gpux_server.url


class TestOllamaOnGpux(OnGpux):
    def make(self) -> ModelProvider:
        return OllamaProvider(setup("ollama", base_url=self.url))


class TestOpenAIOnGpux(OnGpux):
    def make(self) -> ModelProvider:
        return OpenAICompatibleProvider(setup("local", base_url=f"{self.url}/v1", prefix="local:"))


class Alone(ProviderConformance):
    """Each provider has processes of its own."""

    model = RECITER
    message = "Count."

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def make(self) -> ModelProvider:
        return HuggingFaceProvider(
            ProviderSetup(ProviderConfig(name="huggingface"), ChatConfiguration(), self.settings)
        )


@pytest.mark.parametrize("test", ["test_closing_it_ends_answers", "test_it_may_be_closed_at_any_time"])
def test_hugging_face_without_a_server(settings: Settings, test: str) -> None:
    getattr(Alone(settings), test)()


@pytest.fixture(scope="module")
def settings(filled_store: Path) -> Settings:
    return Settings.from_env({"GPUX_HOME": str(filled_store), "HF_HOME": str(filled_store / "hf")})


@dataclass(frozen=True)
class InServer:
    """The core of a server, and the event loop that it began in."""

    core: Core
    runner: asyncio.Runner


@pytest.fixture(scope="module")
def in_server(settings: Settings) -> Iterator[InServer]:
    with asyncio.Runner() as runner:
        core = Core(ServerSettings(gpux=settings, port=0, restore=False, without=frozenset({"chat"})))
        runner.run(core.start())
        yield InServer(core, runner)
        runner.run(core.close())


class TestHuggingFace(ProviderConformance):
    model = RECITER
    message = "Count."

    @pytest.fixture(autouse=True)
    def _server(self, in_server: InServer) -> None:
        self.server = in_server

    def run(self, test: Coroutine[Any, Any, None]) -> None:
        self.server.runner.run(test)

    def make(self) -> ModelProvider:
        core = self.server.core
        config = ProviderConfig(name="huggingface")
        return HuggingFaceProvider(ProviderSetup(config, ChatConfiguration(), core.settings.gpux, core))


class Sound(Scripted):
    """A provider without a fault, whose answers are the words of the last message."""

    def __init__(self) -> None:
        super().__init__("sound", ["model"], setup=setup("sound", prefix="sound:"))

    async def _stream(self, request: ChatRequest) -> AsyncGenerator[Delta | Finished]:
        if request.model != "model":
            raise ModelNotFoundError(f"sound has no model {request.model}", hint="Use model.")
        words = request.messages[-1].content.split(" ")
        limit = request.options.max_tokens or len(words)
        for word in words[:limit]:
            await asyncio.sleep(0)
            yield Delta(text=f"{word} ")
        yield Finished(reason="length" if limit < len(words) else "stop")


class TestSound(ProviderConformance):
    model = "model"

    def make(self) -> ModelProvider:
        return Sound()


class WithoutAnEnd(Sound):
    async def _stream(self, request: ChatRequest) -> AsyncGenerator[Delta | Finished]:
        async for piece in super()._stream(request):
            if isinstance(piece, Delta):
                yield piece


class WithoutALimit(Sound):
    async def _stream(self, request: ChatRequest) -> AsyncGenerator[Delta | Finished]:
        for place in range(9):
            yield Delta(text=str(place))
        yield Finished(reason="stop")


class WithoutPrefix(Sound):
    async def _models(self) -> list[ModelInfo]:
        return [msgspec.structs.replace(one, name="model") for one in await super()._models()]


class AnswersForAnyModel(Sound):
    async def _stream(self, request: ChatRequest) -> AsyncGenerator[Delta | Finished]:
        async for piece in super()._stream(msgspec.structs.replace(request, model="model")):
            yield piece


class RaisesItsOwnErrors(Sound):
    async def _stream(self, request: ChatRequest) -> AsyncGenerator[Delta | Finished]:
        if request.model != "model":
            raise KeyError(request.model)
        async for piece in super()._stream(request):
            yield piece


class MixesAnswers(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.last: Any = None

    async def _stream(self, request: ChatRequest) -> AsyncGenerator[Delta | Finished]:
        self.last = request
        await asyncio.sleep(0.01)
        async for piece in super()._stream(self.last):
            yield piece


class SplitsCharacters(Sound):
    async def _stream(self, request: ChatRequest) -> AsyncGenerator[Delta | Finished]:
        async for piece in super()._stream(request):
            if isinstance(piece, Delta) and any(ord(one) > 0xFFFF for one in piece.text):
                for half in piece.text.encode("utf-16-le", "surrogatepass").decode("utf-16-le"):
                    yield Delta(text=chr(0xD800 + (ord(half) - 0x10000 >> 10)) if ord(half) > 0xFFFF else half)
            else:
                yield piece


class FailsAfterItsEnd(Sound):
    async def _close(self) -> None:
        if self.closed:
            raise RuntimeError("closed twice")
        await super()._close()


class RemembersAnswersThatWereLeft(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.rest = ""

    async def _stream(self, request: ChatRequest) -> AsyncGenerator[Delta | Finished]:
        if self.rest:
            yield Delta(text=self.rest)
        self.rest = "left "
        async for piece in super()._stream(request):
            yield piece
        self.rest = ""


@pytest.mark.parametrize(
    ("faulty", "test"),
    [
        (WithoutAnEnd, "test_an_answer_is_pieces_and_an_end"),
        (WithoutALimit, "test_the_number_of_tokens_is_limited"),
        (WithoutPrefix, "test_its_names_have_its_prefix"),
        (AnswersForAnyModel, "test_a_missing_model_is_typed"),
        (RaisesItsOwnErrors, "test_a_missing_model_is_typed"),
        (MixesAnswers, "test_answers_at_the_same_time_are_not_mixed"),
        (SplitsCharacters, "test_unicode_is_exact"),
        (FailsAfterItsEnd, "test_it_may_be_closed_at_any_time"),
        (RemembersAnswersThatWereLeft, "test_an_answer_can_be_left"),
    ],
)
def test_the_suite_finds_faults(faulty: type[Sound], test: str) -> None:
    class Suite(ProviderConformance):
        model = "model"

        def make(self) -> ModelProvider:
            return faulty()

    with pytest.raises((AssertionError, KeyError, UnicodeEncodeError, RuntimeError)):
        getattr(Suite(), test)()
