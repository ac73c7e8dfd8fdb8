"""A provider that does what a test tells it, and the configuration of a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from gpux.chat.provider import ModelProvider, ProviderSetup
from gpux.chat.providers.registry import ModelProviderRegistry
from gpux.chat.values import (
    ChatConfiguration,
    ChatRequest,
    Delta,
    Finished,
    ModelCapabilities,
    ModelConfig,
    ModelInfo,
    ProviderConfig,
)
from gpux.errors import ModelNotFoundError
from gpux.system.settings import Settings

Step = str | Delta | Finished | Exception | None


class Scripted(ModelProvider):
    """Answers with the steps of a script: texts, pieces, errors to raise, and None to hang for ever.

    Args:
        name: and prefix.
        models: without the prefix; those that end in ``-vision`` read images.
        scripts: one per request; the last one is used again.
        prefix: another one than its name.
        priority: see :class:`ProviderConfig`.
    """

    default_prefix = "scripted:"

    def __init__(
        self,
        name: str,
        models: Sequence[str] = (),
        scripts: Sequence[Sequence[Step]] = (),
        *,
        prefix: str | None = None,
        priority: int = 100,
        setup: ProviderSetup | None = None,
    ) -> None:
        config = ProviderConfig(name=name, prefix=prefix or f"{name}:", priority=priority)
        super().__init__(setup or ProviderSetup(config, ChatConfiguration(), Settings.from_env()))
        self.models: Callable[[], Sequence[str]] = lambda: models
        self.list_error: Exception | None = None
        self.gate: asyncio.Event | None = None  #: lists are not answered before
        self.scripts = list(scripts) or [["one", " two", Finished(reason="stop", completion_tokens=2)]]
        self.requests: list[ChatRequest] = []
        self.listed = 0
        self.ended = 0  #: answers that are closed
        self.closed = 0

    async def _models(self) -> list[ModelInfo]:
        self.listed += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.list_error is not None:
            raise self.list_error
        return [
            ModelInfo(
                name=f"{self.prefix}{name}",
                provider=self.name,
                display_name=name,
                capabilities=ModelCapabilities(supports_vision=name.endswith("-vision"), supports_streaming=True),
            )
            for name in self.models()
        ]

    async def _stream(self, request: ChatRequest) -> AsyncGenerator[Delta | Finished]:
        self.requests.append(request)
        try:
            if request.model not in self.models():
                raise ModelNotFoundError(f"{self.name} has no model {request.model}", hint="Pull it.")
            for step in self.scripts[min(len(self.requests), len(self.scripts)) - 1]:
                if step is None:
                    await asyncio.Event().wait()
                elif isinstance(step, Exception):
                    raise step
                else:
                    yield Delta(text=step) if isinstance(step, str) else step
        finally:
            self.ended += 1

    async def _close(self) -> None:
        self.closed += 1


class Fixed:
    """A configuration as the router reads it."""

    def __init__(self, current: ChatConfiguration) -> None:
        self.current = current

    def get_model_config(self, model_name: str) -> ModelConfig:
        defaults = {
            "timeout_ms": self.current.stream_timeout_ms,
            "retry_attempts": self.current.retry_attempts,
            **self.current.model_defaults,
        }
        return self.current.models.get(model_name) or ModelConfig(model_name=model_name, provider="", **defaults)


async def registry_of(
    *providers: ModelProvider, configuration: ChatConfiguration | None = None
) -> ModelProviderRegistry:
    """A registry with these providers."""
    registry = ModelProviderRegistry(configuration)
    for provider in providers:
        await registry.register_provider(provider)
    return registry
