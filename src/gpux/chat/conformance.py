"""Tests that every chat provider passes, gpux's own and those of other packages.

A subclass says how a provider is made and which of its models are used; pytest and unittest then find the tests in it,
without plug-ins for asyncio::

    class TestMine(ProviderConformance):
        model = "small"

        def make(self) -> ModelProvider:
            return MyProvider(setup("mine", base_url="http://127.0.0.1:9000"))

Every ``async def check_…`` of this class and of a subclass becomes a test ``test_…``, which runs in an event loop of
its own and is bounded in time. The attributes say in what providers differ.
"""

from __future__ import annotations

import asyncio
import functools
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, get_args

from gpux.chat.provider import ModelProvider, ProviderSetup
from gpux.chat.values import (
    ChatConfiguration,
    ChatOptions,
    ChatRequest,
    Delta,
    Finished,
    FinishReason,
    Image,
    Message,
    ProviderConfig,
)
from gpux.errors import GpuxError, InputError, ModelNotFoundError, UsageError
from gpux.system.settings import Settings

#: The smallest PNG: one transparent pixel.
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d4944415478da63fcffff3f030005fe02fea72d0f5b0000000049454e44ae426082"
)
#: Code points of one to four bytes, of which some are drawn together; characters that end a line in some programs.
UNICODE = "a é e\u0301 漢字 🇩🇪 👨\u200d👩\u200d👧 नमस्ते العربية \u2028 \x85 \U0001d518"


def setup(name: str, configuration: ChatConfiguration | None = None, **config: Any) -> ProviderSetup:
    """What a provider is made of in a test.

    Args:
        name: of the provider.
        configuration: the whole one; defaults where it is None.
        config: fields of :class:`ProviderConfig`.
    """
    given = ProviderConfig(name=name, **config)
    found = configuration or ChatConfiguration()
    return ProviderSetup(given, found, Settings.from_env())


class ProviderConformance(ABC):
    """The tests; see the module."""

    #: A model that answers :attr:`message` with three pieces or more, by its name without the prefix.
    model: str
    message: str = "one two three four five six"
    #: A name that no model has.
    missing_model: str = "no-such-model"
    #: A model whose answers to anything are :attr:`exact_text`; None: no model has such answers.
    exact_model: str | None = None
    exact_text: str = ""
    #: A model that reads images; None: no model does.
    vision_model: str | None = None
    #: With these options the same conversation has the same answer, also among others at the same time; None: never.
    deterministic: Mapping[str, Any] | None = {"temperature": 0, "seed": 1}
    #: Tokens of the answers; enough for three pieces.
    max_tokens: int = 8
    #: Messages of the longest history that has to be answered; a longer one may be refused, by an error with a hint.
    longest_history: int = 200
    #: Seconds for one test.
    limit: float = 60.0

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        for name in dir(cls):
            test = f"test_{name.removeprefix('check_')}"
            if name.startswith("check_") and test not in cls.__dict__:
                setattr(cls, test, _test(test, getattr(cls, name)))

    @abstractmethod
    def make(self) -> ModelProvider:
        """A new provider. The test closes it."""

    def run(self, test: Coroutine[Any, Any, None]) -> None:
        """Run a test; for a suite whose providers need an event loop that has begun before."""
        asyncio.run(test)

    # Names and lists

    async def check_its_names_have_its_prefix(self, provider: ModelProvider) -> None:
        """Names are unique, begin with the prefix, and are those of the descriptions."""
        assert provider.name
        assert provider.prefix.endswith(":") and len(provider.prefix) > 1, provider.prefix
        infos = await provider.model_infos()
        names = [one.name for one in infos]
        assert names, "no models are listed"
        assert len(set(names)) == len(names), "a name is listed twice"
        assert all(one.startswith(provider.prefix) and one != provider.prefix for one in names), names
        assert {one.provider for one in infos} == {provider.name}
        assert all(one.display_name for one in infos)
        assert sorted(await provider.list_models()) == sorted(names)

    async def check_listed_models_exist(self, provider: ModelProvider) -> None:
        """A listed name can be used, with and without the prefix, and is described in the same way."""
        for name in (await provider.list_models())[:3]:
            assert await provider.check_model_exists(name) is True
            assert await provider.check_model_exists(provider.bare(name)) is True
            info = await provider.model_info(name)
            assert info.name == name
            assert info.capabilities.supports_vision == await provider.supports_vision(name)
            assert (await provider.model_details(name)).info.name == name

    async def check_the_model_of_the_test_exists(self, provider: ModelProvider) -> None:
        """So that other tests do not fail for another reason than theirs."""
        assert await provider.check_model_exists(self.model) is True
        assert await provider.health_check() is True
        assert await provider.health_error() is None

    async def check_a_missing_model_is_typed(self, provider: ModelProvider) -> None:
        """Everywhere where a model is named."""
        for name in (self.missing_model, f"{provider.prefix}{self.missing_model}"):
            assert await provider.check_model_exists(name) is False
            calls: list[Callable[[str], Awaitable[object]]] = [
                provider.model_info,
                provider.model_details,
                provider.supports_vision,
                lambda model: provider.generate_response(model, "hi"),
                lambda model: _list(provider, model),
                lambda model: provider.process_vision_request(model, "hi", [Image(data=PIXEL, media_type="image/png")]),
            ]
            for call in calls:
                error = await _error(call(name))
                assert isinstance(error, ModelNotFoundError), repr(error)
                assert error.hint, "an error has a hint"
        assert await self._answer(provider), "the provider can be used after it"

    # The order of calls

    async def check_it_initializes_itself_once(self, provider: ModelProvider) -> None:
        """At the first use, also by several at the same time."""
        assert provider.is_initialized() is False
        await asyncio.gather(*(provider.list_models() for _ in range(5)))
        assert provider.is_initialized() is True
        await provider.initialize()
        await provider.initialize()
        assert provider.is_initialized() is True

    async def check_it_may_be_closed_at_any_time(self, provider: ModelProvider) -> None:
        """Before its first use, twice, and to be used again."""
        await provider.aclose()
        assert await self._answer(provider)
        await asyncio.gather(provider.aclose(), provider.aclose())
        assert provider.is_initialized() is False
        assert await self._answer(provider)
        await provider.aclose()
        await provider.aclose()

    async def check_closing_it_ends_answers(self, provider: ModelProvider) -> None:
        """An answer that runs ends with an error, or has ended; it does not hang."""
        answer = provider.stream_response(self.model, self.message, options=self._options())
        async with aclosing(answer):
            await anext(answer)
            await provider.aclose()
            try:
                async for _ in answer:
                    pass
            except GpuxError as error:
                assert error.message
        assert await self._answer(provider)

    # Answers

    async def check_an_answer_is_pieces_and_an_end(self, provider: ModelProvider) -> None:
        """The end is the last one, says why, and has counts that are possible."""
        *pieces, end = await self._pieces(provider, self.model)
        assert len(pieces) >= 3, f"{self.model} answers {self.message!r} with {len(pieces)} pieces"
        assert all(isinstance(one, Delta) and (one.text or one.reasoning) for one in pieces), pieces
        assert isinstance(end, Finished)
        assert end.reason in get_args(FinishReason) and end.reason != "terminated", end
        for count in (end.prompt_tokens, end.completion_tokens):
            assert count is None or count > 0, end

    async def check_the_whole_answer_is_the_joined_stream(self, provider: ModelProvider) -> None:
        """By the name with and without the prefix."""
        whole = await self._answer(provider)
        texts = await _list(provider, f"{provider.prefix}{self.model}", self.message, self._options())
        assert all(isinstance(one, str) and one for one in texts)
        if self.deterministic is not None:
            assert "".join(texts) == whole

    async def check_the_number_of_tokens_is_limited(self, provider: ModelProvider) -> None:
        """``max_tokens`` ends an answer, which says so."""
        *_, end = await self._pieces(provider, self.model, max_tokens=2)
        assert isinstance(end, Finished)
        assert end.reason == "length", end
        assert end.completion_tokens is None or end.completion_tokens <= 2

    async def check_histories_of_any_length(self, provider: ModelProvider) -> None:
        """Of 0, 1 and 200 messages, as values and as mappings."""
        for length in (0, 1, self.longest_history):
            roles = ["user" if place % 2 == 0 else "assistant" for place in range(length)]
            values = [Message(role=role, content=f"m {place}") for place, role in enumerate(roles)]  # type: ignore[arg-type]
            mappings = [{"role": role, "content": f"m {place}"} for place, role in enumerate(roles)]
            first = await provider.generate_response(self.model, self.message, values, self._options())
            second = await provider.generate_response(self.model, self.message, mappings, self._options())
            assert isinstance(first, str)
            if self.deterministic is not None:
                assert first == second
        system = [{"role": "system", "content": "Be brief."}]
        assert isinstance(await provider.generate_response(self.model, self.message, system, self._options()), str)

    async def check_unknown_and_wrong_options_are_refused(self, provider: ModelProvider) -> None:
        """Before anything is generated."""
        for options in ({"no_such_option": 1}, {"temperature": -1}, {"max_tokens": 0}, {"seed": "x"}, {"stop": 5}):
            error = await _error(provider.generate_response(self.model, "hi", options=options))
            assert isinstance(error, UsageError), f"{options}: {error!r}"
        for history in ([{"role": "robot", "content": "x"}], [{"role": "user"}], [{"content": "x"}]):
            error = await _error(provider.generate_response(self.model, "hi", history))
            assert isinstance(error, UsageError), f"{history}: {error!r}"

    async def check_unicode_is_exact(self, provider: ModelProvider) -> None:
        """No piece ends within a character, and no character is lost or replaced."""
        texts = await _list(provider, self.model, UNICODE, self._options(), may_fail=True)
        for text in texts:
            text.encode()  # a half of a surrogate pair cannot be encoded
        if self.exact_model is not None:
            options = {**self._options(), "max_tokens": 4096}
            texts = await _list(provider, self.exact_model, "hi", options)
            assert "".join(texts) == self.exact_text
            assert not any("\ufffd" in text for text in texts), "a piece ends within a character"

    async def check_odd_messages_have_answers_or_typed_errors(self, provider: ModelProvider) -> None:
        """Empty ones, control characters, and a long one."""
        for message in ("", " ", "\x00\x1b[31m\r\n\t", "{{ user }} <|im_end|> [INST]", "word " * 40_000):
            await _list(provider, self.model, message, self._options(), may_fail=True)
        assert await self._answer(provider)

    async def check_images(self, provider: ModelProvider) -> None:
        """They are read, or refused before anything is generated."""
        image = Image(data=PIXEL, media_type="image/png")
        if not await provider.supports_vision(self.model):
            error = await _error(provider.process_vision_request(self.model, "what is this?", [image]))
            assert isinstance(error, InputError), repr(error)
            assert error.hint
        if self.vision_model is not None:
            assert await provider.supports_vision(self.vision_model) is True
            options = self._options()
            assert await provider.process_vision_request(self.vision_model, "what is this?", [image], options)

    # Ends before the end

    async def check_termination_stops_within_one_token(self, provider: ModelProvider) -> None:
        """After two pieces, before the first one, and with the reason."""
        seen: list[Delta | Finished] = []
        async for piece in provider.answer(self._request(self.model), lambda: len(seen) >= 2):
            seen.append(piece)
        assert [type(one) for one in seen] == [Delta, Delta, Finished], seen
        assert seen[-1] == Finished(reason="terminated")
        none = [piece async for piece in provider.answer(self._request(self.model), lambda: True)]
        assert none == [Finished(reason="terminated")]
        await asyncio.wait_for(provider.idle(), 5)
        assert await self._answer(provider)

    async def check_an_answer_can_be_left(self, provider: ModelProvider) -> None:
        """By closing its generator and by cancelling its task, without a trace in later answers."""
        before = await self._answer(provider)
        for _ in range(5):
            async with aclosing(provider.stream_response(self.model, self.message, options=self._options())) as answer:
                async for _piece in answer:
                    break
        for turns in (0, 1, 3):
            task = asyncio.create_task(self._answer(provider))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled() or task.exception() is None
        await asyncio.wait_for(provider.idle(), 5)
        after = await self._answer(provider)
        assert self.deterministic is None or after == before

    async def check_answers_at_the_same_time_are_not_mixed(self, provider: ModelProvider) -> None:
        """Ten conversations, as each one alone; one of which is left, and one that has no model."""
        messages = [f"{self.message} {place}" for place in range(10)]
        alone = [await self._answer(provider, message) for message in messages] if self.deterministic else None
        left = asyncio.create_task(self._answer(provider))
        missing = asyncio.create_task(_error(provider.generate_response(self.missing_model, "hi")))
        together = asyncio.gather(*(self._answer(provider, message) for message in messages))
        await asyncio.sleep(0)
        left.cancel()
        found = await together
        assert all(isinstance(one, str) for one in found)
        assert alone is None or found == alone
        assert isinstance(await missing, ModelNotFoundError)
        await asyncio.wait({left})

    # Inside

    def _options(self, **more: Any) -> dict[str, Any]:
        return {"max_tokens": self.max_tokens, **(self.deterministic or {}), **more}

    def _request(self, model: str, **more: Any) -> ChatRequest:
        asked = (Message(role="user", content=self.message),)
        return ChatRequest(model=model, messages=asked, options=ChatOptions(**self._options(**more)))

    async def _pieces(self, provider: ModelProvider, model: str, **more: Any) -> list[Delta | Finished]:
        return [piece async for piece in provider.answer(self._request(model, **more))]

    async def _answer(self, provider: ModelProvider, message: str | None = None) -> str:
        text = self.message if message is None else message
        return await provider.generate_response(self.model, text, options=self._options())


def _test(name: str, check: Callable[[ProviderConformance, ModelProvider], Awaitable[None]]) -> Callable[..., None]:
    async def run(suite: ProviderConformance) -> None:
        provider = suite.make()
        try:
            async with asyncio.timeout(suite.limit):
                await check(suite, provider)
        finally:
            await provider.aclose()

    @functools.wraps(check)
    def test(self: ProviderConformance) -> None:
        self.run(run(self))

    test.__name__ = test.__qualname__ = name
    del test.__dict__["__wrapped__"]  # pytest takes its arguments for fixtures
    return test


async def _list(
    provider: ModelProvider,
    model: str,
    message: str = "hi",
    options: Mapping[str, Any] | None = None,
    *,
    may_fail: bool = False,
) -> list[str]:
    """The pieces of an answer; with ``may_fail`` those before a typed error."""
    found: list[str] = []
    try:
        async with aclosing(provider.stream_response(model, message, options=options)) as pieces:
            async for piece in pieces:
                found.append(piece)
    except GpuxError as error:
        if not may_fail:
            raise
        assert error.message
    return found


async def _error(call: Awaitable[object]) -> GpuxError | None:
    """The error that a call raises; None: it raises none."""
    try:
        await call
    except GpuxError as error:
        return error
    return None
