"""What watches over models and providers while a server runs: which models are loaded, what they take, who answers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from gpux.chat.retry import retried
from gpux.chat.values import ChatConfiguration, ProviderHealth
from gpux.errors import GpuxError, ProviderNotFoundError, ProviderUnavailableError
from gpux.model.units import format_bytes
from gpux.server.core import Core
from gpux.system.machine import available_memory

if TYPE_CHECKING:
    from gpux.chat.provider import ModelProvider
    from gpux.chat.providers.registry import ModelProviderRegistry

log = logging.getLogger(__name__)
#: Seconds that a check of a provider may take.
PATIENCE = 5.0
#: Checks of a provider in a row that fail before its connections are made anew.
FAILURES = 2


class Watched(Protocol):
    """What the lifecycle needs of the service."""

    core: Core

    @property
    def registry(self) -> ModelProviderRegistry:
        """The providers."""


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory."""

    name: str  #: with the provider's prefix
    provider: str
    memory_bytes: int | None = None  #: of its process; None: not known


class ModelStateTracker:
    """Which models are in memory, of all providers.

    The server itself records its loaded models, and loads them again when it starts; this loads the configured
    ``default_models`` beside them.
    """

    def __init__(self, watched: Watched) -> None:
        self._watched = watched

    async def loaded(self) -> list[LoadedModel]:
        """The models in memory now; those of a provider that does not answer are left out."""
        providers = self._watched.registry.get_all_providers()
        names = await asyncio.gather(*(_loaded_of(provider) for provider in providers))
        sizes = {one.name: one.memory_bytes for one in self._watched.core.models.loaded()}
        return [
            LoadedModel(name, provider.name, sizes.get(provider.bare(name)))
            for provider, found in zip(providers, names, strict=True)
            for name in found
        ]

    async def preload(self, configuration: ChatConfiguration) -> None:
        """Load the default models of each provider, one after the other; errors are logged."""
        for provider in self._watched.registry.get_all_providers():
            for model in provider.setup.config.default_models:
                try:
                    await retried(
                        _load(provider, model),
                        attempts=configuration.retry_attempts,
                        delay=configuration.retry_delay_ms / 1000,
                    )
                except GpuxError as error:
                    log.warning("%s was not loaded: %s", model, error)


def _load(provider: ModelProvider, model: str) -> Callable[[], Awaitable[None]]:
    return lambda: provider.load_model(model)


async def _loaded_of(provider: ModelProvider) -> list[str]:
    try:
        async with asyncio.timeout(PATIENCE):
            return await provider.loaded_models()
    except (GpuxError, TimeoutError):
        return []


@dataclass(frozen=True)
class MemoryUsage:
    """What the models of the server take; sizes in bytes."""

    total: int
    limit: int | None  #: of all models together; None: what is available
    available: int | None  #: on the machine; None: not known
    models: dict[str, int]  #: by the name in the store


class MemoryMonitor:
    """Keeps the models of the server within the configured limits.

    The server unloads models that were not used for ``--keep-alive``, and those for which another one needs the
    memory. This adds the limits of the configuration: ``max_concurrent_models``, ``max_memory`` of all models, and
    ``max_memory`` of one, whose KV caches grow with use.
    """

    def __init__(self, core: Core) -> None:
        self._core = core

    def usage(self) -> MemoryUsage:
        """What is taken now."""
        models = {one.name: one.memory_bytes for one in self._core.models.loaded()}
        return MemoryUsage(sum(models.values()), self._core.models.limits.memory, available_memory(), models)

    def limit(self, *, models: int | None, memory: int | None) -> None:
        """Put configured limits in force; None: those of the server alone."""
        self._core.models.limit(models=models, memory_bytes=memory)

    async def cleanup(self, configuration: ChatConfiguration) -> list[str]:
        """Unload idle models that take more than their own limit; the names of those in the store."""
        limits = {one.model_name.partition(":")[2]: one.max_memory for one in configuration.models.values()}
        unloaded = []
        for loaded in self._core.models.loaded():
            limit = limits.get(loaded.name)
            if limit is not None and loaded.idle and not loaded.pinned and loaded.memory_bytes > limit:
                log.info("%s takes more than %s and is unloaded", loaded.name, format_bytes(limit))
                with suppress(GpuxError):  # it was removed from the store
                    await self._core.models.unload(loaded.name)
                    unloaded.append(loaded.name)
        return unloaded


@dataclass(frozen=True)
class _Checked:
    """The last check of a provider."""

    provider: ModelProvider
    found: ProviderHealth
    failures: int  #: in a row


class HealthMonitor:
    """Checks the providers at intervals, and lets those that fail connect anew."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._checked: dict[str, _Checked] = {}

    def known(self, name: str) -> ProviderHealth:
        """The last check of a provider, ``unknown`` before the first one."""
        last = self._last(name)
        return ProviderHealth(provider=name, healthy=False, status="unknown") if last is None else last.found

    def _last(self, name: str) -> _Checked | None:
        """The last check, unless it was of a provider that a changed configuration has replaced."""
        last = self._checked.get(name)
        if last is None or all(one is not last.provider for one in self._watched.registry.get_all_providers()):
            return None
        return last

    async def check(self, name: str) -> ProviderHealth:
        """Check a provider now.

        Raises:
            ProviderNotFoundError: there is no such provider.
        """
        provider = self._watched.registry.named(name)
        began = time.monotonic()
        error = await _error_of(provider)
        seconds = time.monotonic() - began
        before = self._last(name)
        failures = 0 if error is None else 1 + (0 if before is None else before.failures)
        if error is not None and failures >= FAILURES:
            await _recover(provider)
        degraded = error is None and (down := self._down(provider))
        found = ProviderHealth(
            provider=name,
            healthy=error is None,
            status="unhealthy" if error is not None else "degraded" if degraded else "healthy",
            response_time=seconds,
            last_checked=datetime.now(UTC),
            error=str(error) if error is not None else (f"{', '.join(down)} died too often" if degraded else None),
            metrics=await self._metrics(provider, failures),
        )
        if before is None or before.found.status != found.status:
            log.log(logging.INFO if found.healthy else logging.WARNING, "%s is %s%s", name, found.status, _why(found))
        self._checked[name] = _Checked(provider, found, failures)
        return found

    async def check_all(self) -> list[ProviderHealth]:
        """Check all providers at the same time."""
        names = [provider.name for provider in self._watched.registry.get_all_providers()]
        for gone in set(self._checked) - set(names):
            del self._checked[gone]
        found = await asyncio.gather(*(self.check(name) for name in names), return_exceptions=True)
        for one in found:
            if isinstance(one, BaseException) and not isinstance(one, ProviderNotFoundError):  # removed meanwhile
                raise one
        return [one for one in found if isinstance(one, ProviderHealth)]

    def _down(self, provider: ModelProvider) -> Sequence[str]:
        """Models of the server that died too often and are not started again by themselves."""
        if provider.setup.core is None or provider.default_prefix != "hf:":
            return ()
        return [one.name for one in self._watched.core.models.states() if one.phase == "down"]

    async def _metrics(self, provider: ModelProvider, failures: int) -> dict[str, Any]:
        return {"loadedModels": await _loaded_of(provider), "consecutiveFailures": failures}


async def _error_of(provider: ModelProvider) -> GpuxError | None:
    try:
        async with asyncio.timeout(PATIENCE):
            return await provider.health_error()
    except TimeoutError:
        return ProviderUnavailableError(f"{provider.name} did not answer within {PATIENCE:g} s", provider=provider.name)
    except Exception as error:
        log.exception("the check of %s failed", provider.name)
        return ProviderUnavailableError(f"{provider.name} failed: {error}", provider=provider.name)


async def _recover(provider: ModelProvider) -> None:
    """Close connections that may be broken, unless answers use them; the next use opens new ones."""
    if not provider.is_idle:
        return
    with suppress(GpuxError, TimeoutError):
        async with asyncio.timeout(PATIENCE):
            await provider.aclose()


def _why(found: ProviderHealth) -> str:
    return f": {found.error}" if found.error else ""


class Lifecycle:
    """The three of them, at the configured intervals.

    Args:
        watched: the service.
    """

    def __init__(self, watched: Watched) -> None:
        self.tracker = ModelStateTracker(watched)
        self.memory = MemoryMonitor(watched.core)
        self.health = HealthMonitor(watched)
        self._watched = watched
        self._tasks: list[asyncio.Task[None]] = []
        self._configuration = ChatConfiguration()

    def start(self, configuration: ChatConfiguration, *, models: int | None, memory: int | None) -> None:
        """Begin; see :meth:`reconfigure`."""
        self._configuration = configuration
        self.memory.limit(models=models, memory=memory)
        self._tasks = [
            asyncio.create_task(_logged(self.tracker.preload(configuration))),
            asyncio.create_task(_logged(self._every("health_check_interval_ms", self._check))),
            asyncio.create_task(_logged(self._every("memory_cleanup_interval_ms", self._clean))),
        ]

    def reconfigure(self, configuration: ChatConfiguration, *, models: int | None, memory: int | None) -> None:
        """Follow a changed configuration from now on.

        Args:
            configuration: the intervals, and whether there are any checks.
            models: loaded at the same time; None: not configured.
            memory: bytes of all models; None: not configured.
        """
        self._configuration = configuration
        self.memory.limit(models=models, memory=memory)

    async def close(self) -> None:
        """End; may be called twice."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _check(self) -> None:
        await self.health.check_all()

    async def _clean(self) -> None:
        await self.memory.cleanup(self._configuration)

    async def _every(self, interval: str, work: Callable[[], Awaitable[None]]) -> None:
        """Call ``work`` after each interval of the present configuration, while monitoring is on."""
        last = time.monotonic()
        while True:
            due = last + getattr(self._configuration, interval) / 1000
            # A shorter interval may be configured in the meantime.
            await asyncio.sleep(max(0.01, min(1.0, due - time.monotonic())))
            if time.monotonic() < due:
                continue
            last = time.monotonic()
            if self._configuration.monitoring:
                try:
                    await work()
                except Exception:
                    log.exception("watching over models failed")


async def _logged(work: Awaitable[None]) -> None:
    try:
        await work
    except Exception:
        log.exception("watching over models failed")
