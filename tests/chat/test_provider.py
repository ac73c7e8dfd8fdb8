"""What the base class of chat providers does for each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from gpux.chat.provider import History, ModelProvider, ProviderSetup, checked_options
from gpux.chat.values import (
    ChatConfiguration,
    ChatOptions,
    ChatRequest,
    Delta,
    Finished,
    Image,
    Message,
    ModelCapabilities,
    ModelInfo,
    ProviderConfig,
)
from gpux.errors import InputError, ModelNotFoundError, ProviderUnavailableError, UsageError
from gpux.system.settings import Settings


class Parrot(ModelProvider):
    """Repeats the last message, word by word."""

    default_prefix = "parrot:"

    def __init__(self, setup: ProviderSetup) -> None:
        super().__init__(setup)
        self.requests: list[ChatRequest] = []
        self.closed: list[str] = []
        self.starts = 0
        self.failing = False
        self.stalls = False

    async def _start(self) -> None:
        self.starts += 1
        if self.failing:
            raise ProviderUnavailableError("nobody is there", hint="Come back later.")

    async def _models(self) -> list[ModelInfo]:
        can = ModelCapabilities(supports_vision=False, supports_streaming=True)
        name = f"{self.prefix}grey"
        return [ModelInfo(name=name, provider=self.name, display_name="Grey", capabilities=can)]

    async def _stream(self, request: ChatRequest) -> AsyncGenerator[Delta | Finished]:
        self.requests.append(request)
        words = request.messages[-1].content.split(" ")
        try:
            for place, word in enumerate(words):
                if self.stalls and place:
                    await asyncio.sleep(3600)
                yield Delta(text=word if not place else f" {word}")
            yield Finished(reason="stop", prompt_tokens=1, completion_tokens=len(words))
        finally:
            self.closed.append(request.messages[-1].content)


@pytest.fixture
def parrot() -> Parrot:
    return Parrot(ProviderSetup(ProviderConfig(name="birds"), ChatConfiguration(), Settings.from_env()))


def test_the_answer_is_the_joined_stream(parrot: Parrot) -> None:
    assert asyncio.run(parrot.generate_response("parrot:grey", "one two three")) == "one two three"
    assert parrot.requests[0].model == "grey", "a provider sees its own names without the prefix"
    assert parrot.closed == ["one two three"]


def test_names_have_the_configured_prefix() -> None:
    config = ProviderConfig(name="birds", prefix="b:")
    parrot = Parrot(ProviderSetup(config, ChatConfiguration(), Settings.from_env()))
    assert asyncio.run(parrot.list_models()) == ["b:grey"]
    assert asyncio.run(parrot.check_model_exists("b:grey"))
    assert asyncio.run(parrot.check_model_exists("grey"))
    assert not asyncio.run(parrot.check_model_exists("b:blue"))
    with pytest.raises(ModelNotFoundError, match="birds has no model blue"):
        asyncio.run(parrot.model_info("blue"))


def test_it_is_initialized_once_and_again_after_a_failure(parrot: Parrot) -> None:
    async def use() -> None:
        parrot.failing = True
        assert not await parrot.health_check()
        assert not parrot.is_initialized()
        parrot.failing = False
        await asyncio.gather(*(parrot.list_models() for _ in range(5)))
        assert parrot.is_initialized()
        assert await parrot.health_check()
        await parrot.aclose()
        await parrot.aclose()
        assert not parrot.is_initialized()

    asyncio.run(use())
    assert parrot.starts == 2


def test_a_termination_check_ends_the_answer_between_two_tokens(parrot: Parrot) -> None:
    async def use() -> list[str]:
        seen: list[str] = []
        async for piece in parrot.stream_response("grey", "a b c d", termination_check=lambda: len(seen) == 2):
            seen.append(piece)
        return seen

    assert asyncio.run(use()) == ["a", " b"]
    assert parrot.closed, "the generation has ended"


def test_a_termination_check_ends_an_answer_that_stalls(parrot: Parrot) -> None:
    parrot.stalls = True

    async def use() -> list[Delta | Finished]:
        seen: list[Delta | Finished] = []
        request = ChatRequest(model="grey", messages=(Message(role="user", content="a b"),))
        async for piece in parrot.answer(request, lambda: bool(seen)):
            seen.append(piece)
        return seen

    assert asyncio.run(use()) == [Delta(text="a"), Finished(reason="terminated")]
    assert parrot.closed


def test_closing_the_stream_ends_the_generation(parrot: Parrot) -> None:
    async def use() -> None:
        stream = parrot.stream_response("grey", "a b c")
        assert await anext(stream) == "a"
        await stream.aclose()
        assert parrot.closed == ["a b c"]

    asyncio.run(use())


def test_history_and_options_may_be_mappings(parrot: Parrot) -> None:
    history: History = [{"role": "system", "content": "Be brief."}, Message(role="user", content="Hi")]
    answer = parrot.generate_response("grey", "yes", history, {"maxTokens": 5, "top_p": 0.5})
    assert asyncio.run(answer) == "yes"
    assert [one.role for one in parrot.requests[0].messages] == ["system", "user", "user"]
    assert parrot.requests[0].options == ChatOptions(max_tokens=5, top_p=0.5)


@pytest.mark.parametrize(
    ("options", "named"),
    [({"mirostat": 1}, "mirostat"), ({"temperature": -1}, "temperature"), ({"seed": "x"}, "options")],
)
def test_wrong_options_are_named(options: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked_options(options)
    assert caught.value.details["param"] == named


@pytest.mark.parametrize("name", ["maxTokens", "max_tokens"])
def test_an_option_is_named_as_it_was_written(name: str) -> None:
    other = {"maxTokens": "max_tokens", "max_tokens": "maxTokens"}[name]
    with pytest.raises(UsageError, match=f"^{name} is 0, and") as caught:
        checked_options({name: 0})
    assert caught.value.details["param"] == name
    with pytest.raises(UsageError, match=rf"`\$\.{name}`") as caught:
        checked_options({name: "many"})
    assert other not in str(caught.value)


def test_the_range_of_an_option_is_written_out() -> None:
    with pytest.raises(UsageError, match="max_tokens is -1, and must be between 1 and 2,147,483,647"):
        ChatOptions(max_tokens=-1)


@pytest.mark.parametrize("message", [{"role": "user"}, {"role": "robot", "content": "x"}, {"content": 5}])
def test_a_wrong_message_is_named_by_its_place(parrot: Parrot, message: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="message 1 of the history"):
        asyncio.run(parrot.generate_response("grey", "x", [{"role": "user", "content": "a"}, message]))


def test_images_are_refused_by_a_model_that_does_not_read_them(parrot: Parrot) -> None:
    image = Image(data=b"\x89PNG", media_type="image/png")
    with pytest.raises(InputError, match="does not read images"):
        asyncio.run(parrot.process_vision_request("grey", "what is this?", [image]))
    assert not parrot.requests
