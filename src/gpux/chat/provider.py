"""The interface of chat providers.

A provider answers conversations with the models of one source. A new one is a subclass of :class:`ModelProvider` that
implements :meth:`~ModelProvider._stream` and :meth:`~ModelProvider._models`, registered in the entry point group
``gpux.chat_providers`` under its type, which ``[providers.NAME]`` of the configuration names. What all providers have
in common is done by the base class: initialization at the first use, names with and without the prefix, options as a
mapping, termination, and the check of images.
:mod:`gpux.chat.conformance` has tests for any provider.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from gpux.chat.values import (
    ChatConfiguration,
    ChatOptions,
    ChatRequest,
    Delta,
    Finished,
    Image,
    Message,
    ModelDetails,
    ModelInfo,
    ProviderConfig,
)
from gpux.errors import GpuxError, InputError, ModelNotFoundError, UsageError
from gpux.server.core import Core
from gpux.system.settings import Settings

#: Returns True once an answer is to end.
TerminationCheck = Callable[[], bool]
History = Sequence[Message | Mapping[str, Any]]
Options = ChatOptions | Mapping[str, Any] | None
#: Seconds between two calls of a termination check while no token arrives.
TERMINATION_POLL = 0.05


@dataclass(frozen=True)
class ProviderSetup:
    """What a provider is made of. A changed configuration makes a new provider."""

    config: ProviderConfig
    configuration: ChatConfiguration
    settings: Settings
    core: Core | None = None  #: of the server that it answers in; None outside of one


class ModelProvider(ABC):
    """Where conversations are answered. Used in one event loop, by any number of tasks at the same time."""

    #: Prefix of its models' names where the configuration has none: ``hf:``.
    default_prefix: ClassVar[str]

    def __init__(self, setup: ProviderSetup) -> None:
        self.setup = setup
        self._initialized = False
        self._starting = asyncio.Lock()
        self._holders = 0
        self._idle = asyncio.Event()
        self._idle.set()

    # What a provider implements

    @abstractmethod
    async def _models(self) -> list[ModelInfo]:
        """Every model that can answer.

        Raises:
            ProviderError: the list is not available.
        """

    @abstractmethod
    def _stream(self, request: ChatRequest) -> AsyncGenerator[Delta | Finished]:
        """The pieces of an answer as they come, then :class:`Finished`. Closing it ends the generation.

        Raises:
            ModelNotFoundError: the provider does not have the model.
            ProviderError: the answer could not be generated.
        """

    async def _start(self) -> None:  # noqa: B027 - optional
        """Called once before the first use, and again where it raised."""

    async def _close(self) -> None:  # noqa: B027 - optional
        """Release what :meth:`_start` and the other methods took."""

    async def _check(self) -> None:
        """Raise an error where the provider cannot answer now; by default the list of models is read."""
        await self._models()

    async def _find(self, model: str) -> ModelInfo | None:
        """One model; overridden where that is cheaper than the list."""
        return next((one for one in await self._models() if one.name == f"{self.prefix}{model}"), None)

    async def _details(self, model: str) -> dict[str, Any]:
        """What only this provider knows of a model, JSON-able."""
        return {}

    async def _load(self, model: str) -> None:  # noqa: B027 - optional
        """Prepare a model for its first answer, where it does not prepare itself."""

    async def _loaded(self) -> list[str]:
        """Models that are in memory now, with the prefix; empty where that is not known."""
        return []

    def listed_name(self, model: str) -> str:
        """The name of a model in the list, where it may be written otherwise; both without the prefix."""
        return model

    # What callers use

    @property
    def name(self) -> str:
        """Its name in the configuration and in answers."""
        return self.setup.config.name

    @property
    def prefix(self) -> str:
        """With which the names of its models begin, the colon included."""
        return self.setup.config.prefix or self.default_prefix

    async def initialize(self) -> None:
        """Prepare the provider; other methods do that by themselves.

        Raises:
            GpuxError: the provider cannot be used.
        """
        async with self._starting:
            if not self._initialized:
                await self._start()
                self._initialized = True

    def is_initialized(self) -> bool:
        """Whether :meth:`initialize` has succeeded."""
        return self._initialized

    async def aclose(self) -> None:
        """Release connections and processes; answers that run end with an error. May be called twice."""
        async with self._starting:
            self._initialized = False
            await self._close()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """While this is entered, a provider that the configuration has replaced is not closed."""
        self._holders += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._holders -= 1
            if not self._holders:
                self._idle.set()

    @property
    def is_idle(self) -> bool:
        """Whether no answer runs."""
        return not self._holders

    async def idle(self) -> None:
        """Wait until no answer runs."""
        await self._idle.wait()

    async def health_check(self) -> bool:
        """Whether the provider can answer now. Never raises."""
        return await self.health_error() is None

    async def health_error(self) -> GpuxError | None:
        """Why the provider cannot answer now; None: it can."""
        try:
            await self.initialize()
            await self._check()
        except GpuxError as error:
            return error
        return None

    async def list_models(self) -> list[str]:
        """Names of all models that can answer, with the prefix."""
        return [one.name for one in await self.model_infos()]

    async def model_infos(self) -> list[ModelInfo]:
        """All models that can answer.

        Raises:
            ProviderError: the list is not available.
        """
        await self.initialize()
        return await self._models()

    async def model_info(self, model_name: str) -> ModelInfo:
        """One model.

        Raises:
            ModelNotFoundError: the provider does not have the model.
            ProviderError: that is not known now.
        """
        await self.initialize()
        found = await self._find(self.bare(model_name))
        if found is None:
            raise ModelNotFoundError(
                f"{self.name} has no model {self.bare(model_name)}",
                hint="`gpux config models` lists those of all chat providers.",
            )
        return found

    async def load_model(self, model_name: str) -> None:
        """Prepare a model, so that its first answer begins sooner; a provider may have nothing to prepare.

        Raises:
            ModelNotFoundError: the provider does not have the model.
            GpuxError: it cannot be loaded.
        """
        await self.initialize()
        await self._load(self.bare(model_name))

    async def loaded_models(self) -> list[str]:
        """Names of the models that are in memory now, with the prefix; empty where the provider does not know that.

        Raises:
            ProviderError: that is not known now.
        """
        await self.initialize()
        return await self._loaded()

    async def model_details(self, model_name: str) -> ModelDetails:
        """One model, with what only its provider knows; errors as those of :meth:`model_info`."""
        info = await self.model_info(model_name)
        return ModelDetails(info=info, details=await self._details(self.bare(model_name)))

    async def check_model_exists(self, model_name: str) -> bool:
        """Whether there is such a model, by its name with or without the prefix."""
        await self.initialize()
        return await self._find(self.bare(model_name)) is not None

    async def supports_vision(self, model_name: str) -> bool:
        """Whether a model reads images."""
        return (await self.model_info(model_name)).capabilities.supports_vision

    async def generate_response(
        self, model: str, message: str, conversation_history: History = (), options: Options = None
    ) -> str:
        """The whole answer to a message.

        Args:
            model: with or without the prefix.
            message: of the user.
            conversation_history: messages before it, the oldest first, as values or as mappings with ``role`` and
                ``content``.
            options: as a value or as a mapping with the names of its fields.

        Raises:
            UsageError: an option or a role is unknown.
            ModelNotFoundError: the provider does not have the model.
            ProviderError: the answer could not be generated.
        """
        stream = self.stream_response(model, message, conversation_history, options)
        async with aclosing(stream) as pieces:
            return "".join([piece async for piece in pieces])

    async def stream_response(
        self,
        model: str,
        message: str,
        conversation_history: History = (),
        options: Options = None,
        termination_check: TerminationCheck | None = None,
    ) -> AsyncGenerator[str]:
        """The texts of an answer as they come; arguments and errors as those of :meth:`generate_response`.

        Args:
            termination_check: called between tokens and while none arrives; the answer ends where it returns True.
        """
        messages = (*history(conversation_history), Message(role="user", content=message))
        request = ChatRequest(model=model, messages=messages, options=checked_options(options))
        async with aclosing(self.answer(request, termination_check)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Delta) and piece.text:
                    yield piece.text

    async def process_vision_request(
        self, model: str, message: str, images: Sequence[Image], options: Options = None
    ) -> str:
        """The whole answer to a message with images.

        Raises:
            InputError: the model does not read images.
            GpuxError: as :meth:`generate_response`.
        """
        asked = Message(role="user", content=message, images=tuple(images))
        request = ChatRequest(model=model, messages=(asked,), options=checked_options(options))
        async with aclosing(self.answer(request)) as pieces:
            return "".join([piece.text async for piece in pieces if isinstance(piece, Delta)])

    async def answer(
        self, request: ChatRequest, termination_check: TerminationCheck | None = None
    ) -> AsyncGenerator[Delta | Finished]:
        """The pieces of an answer, then :class:`Finished`; what the router of conversations reads.

        Args:
            request: its model with or without the prefix.
            termination_check: as that of :meth:`stream_response`.

        Raises:
            InputError: a message has images, and the model does not read them.
            GpuxError: as :meth:`generate_response`.
        """
        with self.held():
            async with aclosing(self._answer(request, termination_check)) as pieces:
                async for piece in pieces:
                    yield piece

    async def _answer(
        self, request: ChatRequest, termination_check: TerminationCheck | None
    ) -> AsyncGenerator[Delta | Finished]:
        await self.initialize()
        request = msgspec.structs.replace(request, model=self.bare(request.model))
        if any(one.images for one in request.messages) and not await self.supports_vision(request.model):
            raise InputError(
                f"{request.model} does not read images", hint="Send the text alone, or name a model that reads images."
            )
        if termination_check is None:
            async with aclosing(self._stream(request)) as pieces:
                async for piece in pieces:
                    yield piece
            return
        async with aclosing(self._stream(request)) as pieces, aclosing(_until(pieces, termination_check)) as checked:
            async for piece in checked:
                yield piece

    def bare(self, model_name: str) -> str:
        """A name without the provider's prefix."""
        return model_name.removeprefix(self.prefix)


async def _until(
    pieces: AsyncGenerator[Delta | Finished], termination_check: TerminationCheck
) -> AsyncGenerator[Delta | Finished]:
    """The pieces until the check returns True, which is also asked while the next piece does not arrive."""
    while not termination_check():
        task = asyncio.ensure_future(anext(pieces, None))
        try:
            while not (await asyncio.wait({task}, timeout=TERMINATION_POLL))[0] and not termination_check():
                pass
        finally:
            stopped = not task.done()
            if stopped:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, GpuxError):
                    await task
        if stopped:
            break
        piece = task.result()
        if piece is None:
            return
        yield piece
        if isinstance(piece, Finished):
            return
    yield Finished(reason="terminated")


def history(messages: History) -> tuple[Message, ...]:
    """Messages from values or mappings.

    Raises:
        UsageError: one has no role or no content, or an unknown role.
    """
    return tuple(one if isinstance(one, Message) else _message(place, one) for place, one in enumerate(messages))


def _message(place: int, given: Mapping[str, Any]) -> Message:
    try:
        return msgspec.convert(given, Message)
    except msgspec.ValidationError as error:
        raise UsageError(f"message {place} of the history is invalid: {error}", param="conversationHistory") from None


def checked_options(options: Options) -> ChatOptions:
    """Options from a value or a mapping, whose names may be those of Python or of JSON.

    Raises:
        UsageError: one is unknown or has an invalid value; it is named as the caller wrote it.
    """
    if options is None or isinstance(options, ChatOptions):
        return options or ChatOptions()
    names = {name: field for field in msgspec.structs.fields(ChatOptions) for name in (field.name, field.encode_name)}
    for name in options:
        if name not in names:
            raise UsageError(
                f"unknown option {name}", hint=f"Known options: {', '.join(ChatOptions.__struct_fields__)}", param=name
            )
    written = {key: name for name in options for key in (names[name].name, names[name].encode_name)}
    try:
        return msgspec.convert({names[name].encode_name: value for name, value in options.items()}, ChatOptions)
    except msgspec.ValidationError as error:
        said = re.sub(r"(?<=at `\$\.)\w+", lambda place: written.get(place[0], place[0]), str(error))
        raise UsageError(f"the options are invalid: {said}", param="options") from None
    except UsageError as error:  # out of its range
        field = error.details["param"]
        name = written.get(field, field)
        raise UsageError(error.message.replace(field, name, 1), hint=error.hint, param=name) from None
