"""Conversations, answered by the provider of their model: with retries, fallbacks and time limits as configured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import msgspec

from gpux.chat.provider import (
    TERMINATION_POLL,
    History,
    ModelProvider,
    Options,
    TerminationCheck,
    checked_options,
    history,
)
from gpux.chat.providers.registry import ModelProviderRegistry, Route, typed
from gpux.chat.retry import LONGEST
from gpux.chat.values import (
    ChatConfiguration,
    ChatOptions,
    ChatRequest,
    Delta,
    Finished,
    Image,
    Message,
    ModelCapabilities,
    ModelConfig,
    StreamMetadata,
    StreamResponse,
    ValidationResult,
)
from gpux.errors import (
    DeadlineError,
    GpuxError,
    InputError,
    ModelNotFoundError,
    ProviderError,
    ProviderNotFoundError,
    ProviderUnavailableError,
    UsageError,
    WorkerDiedError,
)

_T = TypeVar("_T")

#: Errors that another model would answer with too, so that no fallback is tried.
FAULTS_OF_THE_REQUEST = (UsageError, InputError, ProviderNotFoundError)
#: What is answered about a model whose provider has not said it yet.
UNKNOWN = ModelCapabilities(supports_vision=False, supports_streaming=True)
TIME_HINT = "Set STREAM_TIMEOUT_MS, or `timeout_ms` of the model in the configuration."


class Configured(Protocol):
    """What the router reads of the configuration, at each request; the configuration service has it."""

    @property
    def current(self) -> ChatConfiguration:
        """The whole configuration."""

    def get_model_config(self, model_name: str) -> ModelConfig:
        """The configuration of a model by its name with the prefix, of defaults where it has no entry."""


class OpenAnswer:
    """An answer whose first piece has arrived.

    Args:
        route: who answers.
        pieces: of the answer.
        capabilities: of the model.
        fallback: why another model, or less than the whole message, was used.
        begun: when the request arrived, by ``time.monotonic``.
    """

    def __init__(
        self,
        route: Route,
        pieces: AsyncGenerator[Delta | Finished],
        capabilities: ModelCapabilities,
        fallback: str | None,
        begun: float,
    ) -> None:
        self.provider, self.model = route.provider, route.model
        self.capabilities, self.fallback = capabilities, fallback
        #: As of :meth:`ModelProvider.answer`; to be closed (``aclosing``) by who does not read them to their end.
        self.pieces: AsyncGenerator[Delta | Finished] = _Begun(self._counted(pieces), pieces)
        #: The texts alone, from the same pieces.
        self.texts: AsyncGenerator[str] = _Begun(self._texts(), self.pieces)
        self._begun = begun
        self._ended: float | None = None
        self._count = 0
        self._finished: Finished | None = None

    @property
    def metadata(self) -> StreamMetadata:
        """What is known so far; the tokens are those that the provider counted, until its end the pieces."""
        finished = self._finished
        counted = None if finished is None else finished.completion_tokens
        return StreamMetadata(
            token_count=self._count if counted is None else counted,
            processing_time=(self._ended or time.monotonic()) - self._begun,
            model_provider=self.provider.name,
            capabilities=self.capabilities,
            finish_reason=None if finished is None else finished.reason,
            prompt_tokens=None if finished is None else finished.prompt_tokens,
            fallback=self.fallback,
        )

    async def _texts(self) -> AsyncGenerator[str]:
        async with aclosing(self.pieces) as pieces:
            async for piece in pieces:
                if isinstance(piece, Delta) and piece.text:
                    yield piece.text

    async def _counted(self, given: AsyncGenerator[Delta | Finished]) -> AsyncGenerator[Delta | Finished]:
        try:
            async with aclosing(given) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Finished):
                        self._finished = piece
                    else:
                        self._count += 1
                    yield piece
        finally:
            self._ended = time.monotonic()


class _Begun(AsyncGenerator[_T]):
    """A generator that closes the one below it also where it was never read: Python does not run its ``finally``."""

    def __init__(self, generator: AsyncGenerator[_T], below: AsyncGenerator[Any]) -> None:
        self._generator, self._below = generator, below

    async def asend(self, value: None) -> _T:
        return await self._generator.asend(value)

    async def athrow(self, *given: Any) -> _T:
        return await self._generator.athrow(*given)

    async def aclose(self) -> None:
        await self._generator.aclose()
        await self._below.aclose()


class StreamMessageRouter:
    """Sends conversations to the provider of their model.

    Args:
        registry: the providers.
        configuration: read at each request, so that a changed one is in force for the next.
    """

    def __init__(self, registry: ModelProviderRegistry, configuration: Configured) -> None:
        self._registry = registry
        self._configuration = configuration

    async def route_stream_request(
        self,
        model: str,
        message: str,
        conversation_history: History = (),
        options: Options = None,
        *,
        images: Sequence[Image] = (),
        termination_check: TerminationCheck | None = None,
    ) -> StreamResponse:
        """The answer to a message, once its first piece has arrived; arguments and errors as :meth:`open_answer`.

        Args:
            model: with or without a prefix.
            message: of the user.
            conversation_history: see :meth:`ModelProvider.generate_response`.
            options: see :meth:`ModelProvider.generate_response`.
            images: of the message.
            termination_check: see :meth:`ModelProvider.stream_response`.
        """
        asked = Message(role="user", content=message, images=tuple(images))
        messages = (*history(conversation_history), asked)
        request = ChatRequest(model=model, messages=messages, options=checked_options(options))
        answer = await self.open_answer(request, termination_check)
        return StreamResponse(answer.provider.name, answer.model, answer.texts, lambda: answer.metadata)

    async def open_answer(self, request: ChatRequest, termination_check: TerminationCheck | None = None) -> OpenAnswer:
        """The answer to a conversation, once its first piece has arrived.

        A request that was not answered at all is sent again, ``retry_attempts`` times, after ``retry_delay_ms`` that
        doubles. Then the ``fallback_models`` are tried, if there are any; the answer says so. No more than the time
        limit of the model is used for all of that.

        Args:
            request: its model with or without a prefix.
            termination_check: see :meth:`ModelProvider.stream_response`.

        Raises:
            ProviderNotFoundError: see :meth:`ModelProviderRegistry.route`.
            ModelNotFoundError: the provider does not have the model.
            ProviderUnavailableError: the provider did not begin to answer.
            DeadlineError: raised by the pieces: the answer was not complete within its time limit.
            GpuxError: as :meth:`ModelProvider.answer`.
        """
        begun = time.monotonic()
        route = await self._registry.route(request.model)
        config = self._configuration.get_model_config(route.model)
        limit = config.timeout_ms / 1000
        call = _Call(self._registry, self._configuration, request, termination_check, begun, limit)
        said = [f"{name} did not answer: {error}" for name, error in route.skipped.items()]
        try:
            return await call.open(route, config, said)
        except FAULTS_OF_THE_REQUEST:
            raise
        except GpuxError as error:
            failed = error
        if not config.fallback_models:
            raise await self._explained(failed, request.model, route) from failed.__cause__
        return await self._in_its_place(call, route, config, failed, said)

    async def validate_model_provider(self, model: str) -> ValidationResult:
        """Whether a model can be asked now: its provider is known and answers, and has the model."""
        try:
            route = await self._registry.route(model)
            with route.provider.held():
                found = await self._registry.has_model(route)
        except GpuxError as error:
            return ValidationResult(valid=False, errors=(str(error),))
        warnings = tuple(f"{name} did not answer: {error}" for name, error in route.skipped.items())
        if not found:
            return ValidationResult(valid=False, errors=(str(self._registry.not_found(model)),), warnings=warnings)
        return ValidationResult(valid=True, warnings=warnings)

    def get_supported_providers(self) -> list[str]:
        """Names of the providers in use, by priority."""
        return [one.name for one in self._registry.get_all_providers()]

    # Inside

    async def _in_its_place(
        self, call: _Call, route: Route, config: ModelConfig, failed: GpuxError, said: list[str]
    ) -> OpenAnswer:
        said = [*said, f"{route.model} could not answer: {failed}"]
        tried = len(said)
        for name in config.fallback_models:
            try:
                other = await self._registry.route(name)
                its = self._configuration.get_model_config(other.model)
                return await call.open(other, its, [*said, f"{other.model} answers in its place"])
            except GpuxError as error:
                said.append(f"{name} could not answer: {error}")
        failed.hint = f"The models that are configured in its place failed too: {'; '.join(said[tried:])}"
        raise failed

    async def _explained(self, error: GpuxError, asked: str, route: Route) -> GpuxError:
        """The error; for a name that the default provider does not have, the one about its prefix if it has one."""
        if not isinstance(error, ModelNotFoundError) or asked == route.model or ":" not in asked:
            return error
        await self._registry.lists()
        found = self._registry.not_found(asked)
        return found if isinstance(found, ProviderNotFoundError) else error


@dataclass(frozen=True)
class _Call:
    """One request, of which the models that are tried have the time limit in common."""

    registry: ModelProviderRegistry
    configuration: Configured
    request: ChatRequest
    termination_check: TerminationCheck | None
    begun: float
    limit: float  #: seconds

    async def open(self, route: Route, config: ModelConfig, said: list[str]) -> OpenAnswer:
        """The answer of one model, from its first piece on."""
        with route.provider.held():
            options = _with_defaults(self.request.options, config.options)
            request = msgspec.structs.replace(self.request, model=route.model, options=options)
            if await self._is_without_images(route):
                request = msgspec.structs.replace(request, messages=_without_images(request.messages))
                said = [*said, f"{route.model} does not read images and answers the text alone"]
            pieces = self._in_time(route.provider, self._tries(route.provider, request, config))
            first = await anext(pieces)  # the others are those that follow it
            known = self.registry.known(route.model)
            capabilities = UNKNOWN if known is None else known.capabilities
            return OpenAnswer(
                route, _Begun(_joined(first, pieces), pieces), capabilities, "; ".join(said) or None, self.begun
            )

    async def _is_without_images(self, route: Route) -> bool:
        """Whether images are to be left out, since the model does not read them and the configuration says so."""
        if self.configuration.current.images_for_text_models != "drop":
            return False
        if not any(one.images for one in self.request.messages):
            return False
        try:
            async with asyncio.timeout(self._left()):
                return not await route.provider.supports_vision(route.model)
        except TimeoutError:
            raise self._late(route.provider) from None
        except Exception as error:
            raise typed(route.provider, error) from error

    async def _tries(
        self, provider: ModelProvider, request: ChatRequest, config: ModelConfig
    ) -> AsyncGenerator[Delta | Finished]:
        """The pieces; a request that was not answered at all is sent again."""
        delay = self.configuration.current.retry_delay_ms / 1000
        left = config.retry_attempts
        while True:
            answered = False
            try:
                async with aclosing(provider.answer(request, self.termination_check)) as pieces:
                    async for piece in pieces:
                        answered = True
                        yield piece
                return
            except (ProviderUnavailableError, WorkerDiedError) as error:
                if answered or not left or not _was_not_answered(error) or self._left() <= delay:
                    raise
            left -= 1
            if await self._pause(delay):
                yield Finished(reason="terminated")
                return
            delay = min(2 * delay, LONGEST)

    async def _pause(self, seconds: float) -> bool:
        """Wait; True: the answer is to end."""
        if self.termination_check is None:
            await asyncio.sleep(seconds)
            return False
        until = time.monotonic() + seconds
        while not self.termination_check():
            left = until - time.monotonic()
            if left <= 0:
                return False
            await asyncio.sleep(min(left, TERMINATION_POLL))
        return True

    async def _in_time(
        self, provider: ModelProvider, given: AsyncGenerator[Delta | Finished]
    ) -> AsyncGenerator[Delta | Finished]:
        """The pieces, whose errors are typed, until the end of the answer or of its time."""
        begun = False
        async with aclosing(given) as pieces:
            while True:
                try:
                    async with asyncio.timeout(self._left()) as limit:
                        piece = await anext(pieces, None)
                except TimeoutError as error:
                    if not limit.expired():
                        raise typed(provider, error) from error
                    raise (self._incomplete(provider) if begun else self._late(provider)) from None
                except Exception as error:
                    raise typed(provider, error) from error
                if piece is None:
                    raise ProviderError(
                        f"the answer of {provider.name} has no end",
                        hint="Send the message again.",
                        provider=provider.name,
                    )
                begun = True
                yield piece
                if isinstance(piece, Finished):
                    return

    def _left(self) -> float:
        return max(self.begun + self.limit - time.monotonic(), 0)

    def _late(self, provider: ModelProvider) -> ProviderUnavailableError:
        return ProviderUnavailableError(
            f"{provider.name} did not begin to answer within {self.limit:g} s", hint=TIME_HINT, provider=provider.name
        )

    def _incomplete(self, provider: ModelProvider) -> DeadlineError:
        return DeadlineError(f"the answer of {provider.name} was not complete after {self.limit:g} s", hint=TIME_HINT)


async def _joined(first: _T, pieces: AsyncGenerator[_T]) -> AsyncGenerator[_T]:
    async with aclosing(pieces):
        yield first
        async for piece in pieces:
            yield piece


def _was_not_answered(error: GpuxError) -> bool:
    """Whether no part of an answer arrived, not even a status; a worker that died may not have begun either."""
    if isinstance(error, WorkerDiedError):
        return bool(error.details.get("should_retry"))
    return "status" not in error.details


def _with_defaults(options: ChatOptions, defaults: ChatOptions) -> ChatOptions:
    """The options, those that are not given from the configuration of the model."""
    if defaults == ChatOptions():
        return options
    missing = {
        name: getattr(defaults, name) for name in options.__struct_fields__ if getattr(options, name) in (None, ())
    }
    return msgspec.structs.replace(options, **missing)


def _without_images(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    return tuple(msgspec.structs.replace(one, images=()) for one in messages)
