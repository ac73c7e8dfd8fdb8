"""The chat providers in use, their lists of models, and which of them answers for a name."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable
from dataclasses import dataclass, field, replace
from time import monotonic as clock
from typing import Any, Final, TypeVar

from gpux.chat.configuration.types import prefix_of
from gpux.chat.provider import ModelProvider, ProviderSetup
from gpux.chat.values import ChatConfiguration, ChatRequest, Delta, Finished, ModelInfo, ProviderConfig
from gpux.errors import (
    ConfigurationError,
    GpuxError,
    ModelNotFoundError,
    ProviderError,
    ProviderNotFoundError,
    ProviderUnavailableError,
    UsageError,
)
from gpux.server.core import Core
from gpux.system.plugins import registered
from gpux.system.settings import Settings

log = logging.getLogger(__name__)
_T = TypeVar("_T")

GROUP: Final = "gpux.chat_providers"
#: Seconds in which a list is answered from memory.
FRESH: Final = 5.0
#: Seconds in which an older list is still answered at once, while the new one is read; after that it is waited for.
STALE: Final = 300.0
#: Seconds that callers wait for the list of one provider. Its reading continues, for the next callers.
PATIENCE: Final = 0.8
#: Seconds that a provider may take to close.
CLOSING: Final = 5.0

#: Methods of providers that :meth:`ModelProviderRegistry.route_request` calls; their first argument is the model.
OPERATIONS: Final = (
    "generate_response",
    "stream_response",
    "check_model_exists",
    "model_info",
    "supports_vision",
    "process_vision_request",
)


@dataclass(frozen=True)
class ModelLists:
    """The models of all providers, and why some are missing."""

    models: list[ModelInfo]  #: by the priority of their providers
    errors: dict[str, GpuxError]  #: by the name of the provider; its models may be in the list, as last read


@dataclass(frozen=True)
class Route:
    """Who answers for a name."""

    provider: ModelProvider
    model: str  #: with the prefix
    #: Providers of higher priority that have answered before, and could not be asked now.
    skipped: dict[str, GpuxError] = field(default_factory=dict)


class ModelProviderRegistry:
    """The chat providers of one configuration. Used in one event loop.

    Args:
        configuration: names the default provider and the priorities.
        settings: of gpux.
        core: of the server that the providers answer in.
    """

    def __init__(
        self, configuration: ChatConfiguration | None = None, settings: Settings | None = None, core: Core | None = None
    ) -> None:
        self.configuration = configuration or ChatConfiguration()
        self._settings = settings or Settings.from_env()
        self._core = core
        self._entries: dict[str, _Entry] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(
        cls, configuration: ChatConfiguration, settings: Settings, core: Core | None = None
    ) -> ModelProviderRegistry:
        """A registry with every provider that the configuration enables, made from the entry points of their types.

        Their lists are read in the background, so that the first request finds them.

        Raises:
            ConfigurationError: a type of provider is unknown, or two providers have the same prefix. One that cannot
                be imported or made is in the registry and reports that at each use.
        """
        registry = cls(configuration, settings, core)
        for config in _enabled(configuration):
            await registry.register_provider(registry._made(config, configuration))
        for entry in registry._entries.values():
            entry.begin()
        return registry

    async def register_provider(self, provider: ModelProvider) -> None:
        """Add a provider. It is initialized at its first use, so that one that cannot be reached may be added.

        Raises:
            ConfigurationError: another provider has its name or its prefix, or the prefix does not end with a colon.
        """
        _check_conflicts(provider, [entry.provider for entry in self._entries.values()])
        self._entries[provider.name] = _Entry(provider)
        self._sort()

    async def reconfigure(self, old: ChatConfiguration, new: ChatConfiguration) -> None:
        """Follow a changed configuration. Answers that run end with the provider that they began with.

        A provider whose own configuration has changed is replaced; the others see the new values at their next
        request. Where this raises, nothing has changed.

        Raises:
            ConfigurationError: see :meth:`open`.
        """
        wanted = {config.name: config for config in _enabled(new)}
        configured = {config.name for config in _enabled(old)}
        kept = {
            name: entry
            for name, entry in self._entries.items()
            if (name not in configured and name not in wanted) or entry.provider.setup.config == wanted.get(name)
        }
        made = {name: _Entry(self._made(config, new)) for name, config in wanted.items() if name not in kept}
        providers: list[ModelProvider] = []
        for entry in [*kept.values(), *made.values()]:
            _check_conflicts(entry.provider, providers)
            providers.append(entry.provider)
        removed = [entry for name, entry in self._entries.items() if name not in kept]
        for entry in kept.values():
            entry.provider.setup = replace(entry.provider.setup, configuration=new)
        self._entries = {**kept, **made}
        self.configuration = new
        self._sort()
        for entry in removed:
            self._retire(entry)

    async def aclose(self) -> None:
        """Close all providers; answers that run end with an error. May be called twice."""
        entries, self._entries = list(self._entries.values()), {}
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        await asyncio.gather(*(entry.close() for entry in entries))

    # Providers

    def get_all_providers(self) -> list[ModelProvider]:
        """By priority."""
        return [entry.provider for entry in self._entries.values()]

    def named(self, name: str) -> ModelProvider:
        """The provider of this name.

        Raises:
            ProviderNotFoundError: no provider has this name, or it is switched off.
        """
        if name not in self._entries:
            raise self._no_provider(f"there is no chat provider {name!r}", name)
        return self._entries[name].provider

    def get_provider(self, model_name: str) -> ModelProvider:
        """Who answers for a name, as far as that is known without a request.

        That is the provider of its prefix, else the default provider, else the first by priority whose list, as last
        read, has the model; :meth:`route` reads the lists first.

        Raises:
            ProviderNotFoundError: its prefix is of a provider that is switched off, or there is no provider.
            ModelNotFoundError: it has no prefix, there is no default provider, and no list has the model.
        """
        found = self._by_name(model_name) or next(
            (entry.provider for entry in self._entries.values() if entry.listed(model_name) is not None), None
        )
        if found is None:
            raise self.not_found(model_name)
        return found

    async def route(self, model_name: str) -> Route:
        """Who answers for a name: the provider of its prefix, else the default provider, else the first that has it.

        Raises:
            ProviderNotFoundError: see :meth:`get_provider`; or no provider has the name's prefix, nor such a model.
            ModelNotFoundError: no provider has the model.
            ProviderUnavailableError: no provider that could be asked has the model.
        """
        found = self._by_name(model_name)
        if found is not None:
            return Route(found, f"{found.prefix}{found.bare(model_name)}")
        return await self._first_that_has(model_name)

    async def route_request(self, model_name: str, operation: str, *args: Any) -> Any:
        """What a method of the model's provider answers; for ``stream_response`` its generator.

        Args:
            model_name: with or without a prefix.
            operation: one of :data:`OPERATIONS`.
            args: of the method, after the model.

        Raises:
            UsageError: there is no such operation.
            GpuxError: as :meth:`route` and the method.
        """
        if operation not in OPERATIONS:
            raise UsageError(
                f"chat providers have no operation {operation!r}", hint=f"Known operations: {', '.join(OPERATIONS)}."
            )
        route = await self.route(model_name)
        answer = getattr(route.provider, operation)(route.model, *args)
        return await answer if isinstance(answer, Awaitable) else answer

    async def has_model(self, route: Route) -> bool:
        """Whether the provider of a route has its model.

        Raises:
            GpuxError: the provider does not answer.
        """
        entry = self._entries.get(route.provider.name)
        return entry is not None and await entry.find(route.model)

    def not_found(self, model_name: str) -> GpuxError:
        """The error for a name without a registered prefix that no provider has a model for.

        ``llama3.2:1b`` has a tag and no prefix; what stands before the colon is taken for a prefix where no known
        model begins with it.
        """
        word, colon, _ = model_name.partition(":")
        known = any(
            one.name.removeprefix(entry.provider.prefix).partition(":")[0] == word
            for entry in self._entries.values()
            for one in entry.models
        )
        if colon and "/" not in word and not known:
            return self._no_provider(f"no chat provider has the prefix {word}:, nor a model {model_name}", word)
        return ModelNotFoundError(
            f"no chat provider has a model {model_name}",
            hint="`gpux config models` lists those of all chat providers.",
        )

    # Models

    async def list_all_models(self, *, refresh: bool = False) -> list[ModelInfo]:
        """The models of every provider that answers; see :meth:`lists`."""
        return (await self.lists(refresh=refresh)).models

    async def lists(self, *, refresh: bool = False) -> ModelLists:
        """The models of all providers, read at the same time.

        A list is answered from memory for :data:`FRESH` seconds, and then for :data:`STALE` seconds while the new one
        is read. A provider that fails or takes longer than :data:`PATIENCE` is in the errors.

        Args:
            refresh: read the lists again.
        """
        entries = list(self._entries.values())
        errors = await asyncio.gather(*(entry.update(refresh=refresh) for entry in entries))
        return ModelLists(
            [one for entry in entries for one in entry.models],
            {entry.provider.name: error for entry, error in zip(entries, errors, strict=True) if error is not None},
        )

    async def models_of(self, name: str, *, refresh: bool = False) -> list[ModelInfo]:
        """The models of one provider.

        Raises:
            ProviderNotFoundError: there is no such provider.
            GpuxError: its list is not available, and was not read before.
        """
        self.named(name)
        entry = self._entries[name]
        error = await entry.update(refresh=refresh)
        if error is not None and entry.read is None:
            raise error
        return list(entry.models)

    def known(self, model_name: str) -> ModelInfo | None:
        """A model by its name with the prefix, from the lists as last read."""
        return next(filter(None, (entry.listed(model_name) for entry in self._entries.values())), None)

    def forget_models(self, name: str) -> None:
        """Read the list of a provider again at its next use, since models were added or removed."""
        if name in self._entries:
            self._entries[name].outdated = True

    # Inside

    def _made(self, config: ProviderConfig, configuration: ChatConfiguration) -> ModelProvider:
        kind = config.type or config.name
        points = registered(GROUP, "type of chat providers")
        if kind not in points:
            raise ConfigurationError(
                f"the type {kind!r} of the chat provider {config.name} is unknown",
                hint=f"Known types: {', '.join(sorted(points))}. Set `type` in [providers.{config.name}].",
                key=f"providers.{config.name}.type",
            )
        setup = ProviderSetup(config, configuration, self._settings, self._core)
        try:
            made: ModelProvider = points[kind].load()(setup)
        except Exception as error:  # a fault of one provider is not the others'
            log.exception("the chat provider %s cannot be used", config.name)
            made = _Unusable(setup, error)
        return made

    def _sort(self) -> None:
        place = {config.name: position for position, config in enumerate(_enabled(self.configuration))}
        self._entries = dict(
            sorted(
                self._entries.items(),
                key=lambda item: (item[1].provider.setup.config.priority, place.get(item[0], len(place))),
            )
        )

    def _by_name(self, model_name: str) -> ModelProvider | None:
        """By the prefix, else the default provider."""
        providers = [one for one in self.get_all_providers() if model_name.startswith(one.prefix)]
        if providers:
            return max(providers, key=lambda one: len(one.prefix))
        for config in self.configuration.providers.values():
            if not config.enabled and model_name.startswith(_prefix(config)):
                raise self._no_provider(f"the chat provider {config.name} is switched off", config.name)
        default = self.configuration.default_provider
        if default is not None:
            return self.named(default)
        if not self._entries:
            raise self._no_provider("there is no chat provider", "")
        return None

    async def _first_that_has(self, model_name: str) -> Route:
        entries = list(self._entries.values())
        checks = [asyncio.create_task(entry.find(model_name)) for entry in entries]
        skipped: dict[str, GpuxError] = {}
        try:
            for entry, check in zip(entries, checks, strict=True):
                try:
                    if await check:
                        provider = entry.provider
                        gone = {one.provider.name for one in entries if one.read is not None}
                        said = {name: error for name, error in skipped.items() if name in gone}
                        return Route(provider, f"{provider.prefix}{model_name}", said)
                except GpuxError as error:
                    skipped[entry.provider.name] = error
        finally:
            for check in checks:
                check.cancel()
            await asyncio.gather(*checks, return_exceptions=True)
        if not skipped:
            raise self.not_found(model_name)
        first = next(iter(skipped.values()))
        raise ProviderUnavailableError(
            f"no chat provider that answers has a model {model_name}; {', '.join(skipped)} did not answer: {first}",
            hint=f"Start it, or write the prefix of the provider: {entries[0].provider.prefix}{model_name}",
            provider=next(iter(skipped)),
        )

    def _no_provider(self, message: str, name: str) -> ProviderNotFoundError:
        config = self.configuration.providers.get(name)
        prefixes = ", ".join(entry.provider.prefix for entry in self._entries.values())
        if config is not None and not config.enabled:
            hint = f"Set `enabled = true` in [providers.{name}], or name a model of another provider: {prefixes}"
        elif prefixes:
            hint = f"Prefixes of models: {prefixes}"
        else:
            hint = "Enable one: HUGGINGFACE_ENABLED=true, or [providers.NAME] in the configuration."
        return ProviderNotFoundError(message, hint=hint)

    def _retire(self, entry: _Entry) -> None:
        task = asyncio.create_task(entry.retire())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)


class _Unusable(ModelProvider):
    """In place of a provider that cannot be made, whose fault each use reports."""

    default_prefix = ""

    def __init__(self, setup: ProviderSetup, error: Exception) -> None:
        super().__init__(setup)
        self._error = error

    @property
    def prefix(self) -> str:
        return _prefix(self.setup.config)

    async def _start(self) -> None:
        config = self.setup.config
        if isinstance(self._error, GpuxError):
            raise type(self._error)(self._error.message, hint=self._error.hint, **self._error.details)
        raise ConfigurationError(
            f"the chat provider {config.name} cannot be used: {type(self._error).__name__}: {self._error}",
            hint=f"Install the package of {config.type or config.name} again, or set `enabled = false`.",
            key=f"providers.{config.name}.type",
        )

    async def _models(self) -> list[ModelInfo]:
        raise AssertionError("it never starts")

    async def _stream(self, request: ChatRequest) -> AsyncGenerator[Delta | Finished]:
        raise AssertionError("it never starts")
        yield  # a generator


class _Entry:
    """A provider with its list of models."""

    def __init__(self, provider: ModelProvider) -> None:
        self.provider = provider
        self.models: list[ModelInfo] = []
        self.by_name: dict[str, ModelInfo] = {}
        self.read: float | None = None  #: when the list was read
        self.outdated = False
        self._reading: asyncio.Task[GpuxError | None] | None = None
        self._began = 0.0  #: when it began to be read

    def listed(self, model_name: str) -> ModelInfo | None:
        """A model of the list as last read, by its name with or without the prefix."""
        bare, prefix = self.provider.bare(model_name), self.provider.prefix
        return self.by_name.get(f"{prefix}{bare}") or self.by_name.get(f"{prefix}{self.provider.listed_name(bare)}")

    async def find(self, model_name: str) -> bool:
        """Whether the provider has a model; asked where a fresh list does not have it.

        Raises:
            GpuxError: the provider did not answer.
        """
        if self._age() < FRESH and self.listed(model_name) is not None:
            return True
        if self._is_late():
            raise _late(self.provider)
        return await _in_time(self.provider, self.provider.check_model_exists(model_name))

    async def update(self, *, refresh: bool = False) -> GpuxError | None:
        """Read the list where it is old; the reason where the list may not be the present one."""
        age = self._age()
        if age < FRESH and not refresh:
            return None
        reading = self.begin()
        if age < STALE and not refresh:
            return None
        # One caller at most waits for a list that hangs; the others learn at once that it does.
        await asyncio.wait({reading}, timeout=max(self._began + PATIENCE - clock(), 0))
        if not reading.done():
            return _late(self.provider)
        return _closed(self.provider) if reading.cancelled() else reading.result()

    def begin(self) -> asyncio.Task[GpuxError | None]:
        """Read the list, unless that is being done."""
        if self._reading is None:
            self._began = clock()
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(self._done)
        return self._reading

    def _is_late(self) -> bool:
        return self._reading is not None and clock() >= self._began + PATIENCE

    def _age(self) -> float:
        return float("inf") if self.read is None or self.outdated else clock() - self.read

    async def _read(self) -> GpuxError | None:
        self.outdated = False
        try:
            models = await self.provider.model_infos()
        except Exception as error:  # noqa: BLE001 - a fault of one provider is not the others'
            self.outdated = True
            return typed(self.provider, error)
        self.models = sorted(models, key=lambda one: one.name)
        self.by_name = {one.name: one for one in self.models}
        self.read = clock()
        return None

    def _done(self, task: asyncio.Task[GpuxError | None]) -> None:
        if self._reading is task:
            self._reading = None

    async def retire(self) -> None:
        """Close the provider once its answers have ended."""
        await self.provider.idle()
        await self.close()

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})
        with contextlib.suppress(GpuxError):
            await _in_time(self.provider, self.provider.aclose(), CLOSING)


async def _in_time(provider: ModelProvider, call: Awaitable[_T], seconds: float = PATIENCE) -> _T:
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError:
        raise _late(provider) from None
    except Exception as error:
        raise typed(provider, error) from error


def typed(provider: ModelProvider, error: Exception) -> GpuxError:
    """The error itself, or a :class:`ProviderError` about a fault of the provider, which may be a third party's."""
    if isinstance(error, GpuxError):
        return error
    return ProviderError(
        f"{provider.name} failed: {type(error).__name__}: {error}",
        hint="Report this to the author of the provider.",
        provider=provider.name,
    )


def _late(provider: ModelProvider) -> ProviderUnavailableError:
    return ProviderUnavailableError(
        f"{provider.name} did not answer within {PATIENCE:g} s",
        hint=f"GET /api/providers/{provider.name}/health says what is wrong with it.",
        provider=provider.name,
    )


def _closed(provider: ModelProvider) -> ProviderUnavailableError:
    return ProviderUnavailableError(
        f"{provider.name} was closed, since the configuration changed or the server ends",
        hint="Send the request again.",
        provider=provider.name,
    )


def _enabled(configuration: ChatConfiguration) -> list[ProviderConfig]:
    return [config for config in configuration.providers.values() if config.enabled]


def _prefix(config: ProviderConfig) -> str:
    """The prefix of a provider that is switched off, and may not even be installed."""
    try:
        found = prefix_of(config)
    except ImportError:
        found = None
    return found or f"{config.name}:"


def _check_conflicts(provider: ModelProvider, others: list[ModelProvider]) -> None:
    key = f"providers.{provider.name}.prefix"
    if not provider.prefix.endswith(":") or len(provider.prefix) < 2:
        raise ConfigurationError(
            f"the prefix {provider.prefix!r} of the chat provider {provider.name} is invalid",
            hint=f"Write a name and a colon: {provider.name}:",
            key=key,
        )
    for other in others:
        if other.name == provider.name:
            raise ConfigurationError(
                f"two chat providers have the name {provider.name}", hint="Rename one of them.", key=key
            )
        if other.prefix == provider.prefix:
            raise ConfigurationError(
                f"the chat providers {other.name} and {provider.name} have the same prefix {provider.prefix}",
                hint=f"Set another `prefix` in [providers.{provider.name}].",
                key=key,
            )
