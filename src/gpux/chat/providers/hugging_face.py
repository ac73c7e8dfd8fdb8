"""Models of the Hugging Face Hub that gpux has stored, answered by the server's own processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from gpux.chat.configuration.resolve import model_config
from gpux.chat.history import fitting, room_for_answer
from gpux.chat.provider import ModelProvider, ProviderSetup
from gpux.chat.values import (
    ChatOptions,
    ChatRequest,
    Delta,
    Finished,
    Message,
    ModelCapabilities,
    ModelConfig,
    ModelInfo,
    ModelMetadata,
)
from gpux.errors import CancelledError, DeadlineError, DoesNotFitError, GpuxError
from gpux.model.precisions import canonical_precision, names_precision
from gpux.model.units import format_bytes
from gpux.model.variant import StoredModel
from gpux.server.api.ollama import facts
from gpux.server.api.openai.generation import prepared
from gpux.server.core import Core
from gpux.server.memory import estimate
from gpux.server.models import Loaded
from gpux.server.names import Listed
from gpux.server.settings import ServerSettings
from gpux.server.workers.messages import Count, Generate, Generated, Parsing, Piece

TASKS = ("text-generation",)
#: name of a device in the configuration -> in gpux
_DEVICES = {"auto": None, "mps": "coreml"}
#: field of :class:`ChatOptions` -> option of the pipeline's call, where the names differ
_OPTIONS = {"max_tokens": "max_new_tokens"}
#: The least ``top_p`` of the model, which leaves the most likely token.
_LEAST_SHARE = 1e-9


class HuggingFaceProvider(ModelProvider):
    """Stored models of text-generation.

    On the core of the server that it answers in; outside of one, on a core of its own, whose processes end with
    :meth:`aclose`. Models read texts only.
    """

    default_prefix: ClassVar[str] = "hf:"

    def __init__(self, setup: ProviderSetup) -> None:
        super().__init__(setup)
        self._own: Core | None = None
        self._configs: dict[str, ModelConfig] = {}
        self._infos: dict[Path, ModelInfo] = {}
        self._listed: tuple[tuple[Listed, ...], list[ModelInfo]] | None = None
        self._used: dict[str, tuple[str | None, bool]] = {}  # reference -> device and caches that it was last used with

    async def _start(self) -> None:
        if self.setup.core is None and self._own is None:
            self._own = Core(ServerSettings(gpux=self.setup.settings, port=0, restore=False))
            await self._own.models.start()

    async def _close(self) -> None:
        if self._own is not None:
            own, self._own = self._own, None
            await own.models.close()
            await own.registry.close()

    @property
    def _core(self) -> Core:
        core = self.setup.core or self._own
        assert core is not None  # every method has initialized the provider
        return core

    # What there is

    async def _models(self) -> list[ModelInfo]:
        listing = self._core.models.listing()
        if self._listed is None or self._listed[0] is not listing:
            found = [self._info(one.model, one.name) for one in listing if one.task in TASKS]
            self._listed = (listing, found)
        return list(self._listed[1])

    async def _find(self, model: str) -> ModelInfo | None:
        stored = self._core.models.get(self._reference(model))
        if stored is None or stored.task not in TASKS:
            return None
        return msgspec.structs.replace(self._info(stored, model), name=f"{self.prefix}{model}")

    async def _check(self) -> None:
        self._core.models.listing()

    def _info(self, model: StoredModel, name: str) -> ModelInfo:
        known = self._infos.get(model.path)
        if known is not None and known.name == f"{self.prefix}{name}":
            return known
        manifest = model.manifest
        made = ModelInfo(
            name=f"{self.prefix}{name}",
            provider=self.name,
            display_name=name,
            description=f"{manifest.precision}, {manifest.evidence}",
            capabilities=ModelCapabilities(
                supports_vision=False, supports_streaming=True, max_context_length=facts.context_of(model)
            ),
            metadata=ModelMetadata(
                size=model.size,
                parameters=facts.parameter_count(model),
                architecture=facts.architecture(model),
                license=manifest.license,
                last_updated=datetime.fromisoformat(manifest.created) if manifest.created else None,
            ),
        )
        self._infos[model.path] = made
        return made

    # Models

    async def _load(self, model: str) -> None:
        async with self._lease(model):
            return

    async def _loaded(self) -> list[str]:
        return [f"{self.prefix}{one.name}" for one in self._core.models.loaded() if one.task in TASKS]

    async def unload_model(self, model_name: str) -> None:
        """End the process of a model after the answers that run; nothing if it is not loaded.

        Raises:
            ModelNotFoundError: the provider does not have the model.
        """
        await self.initialize()
        await self._core.models.unload(self._reference(self.bare(model_name)))

    async def is_model_loaded(self, model_name: str) -> bool:
        """Whether a model has a process that answers; False also where there is no such model."""
        await self.initialize()
        stored = self._core.models.get(self._reference(self.bare(model_name)))
        return stored is not None and any(one.model.path == stored.path for one in self._core.models.loaded())

    async def get_model_config(self, model_name: str) -> ModelConfig:
        """How a model is run, with or without an entry in the configuration."""
        return self._config(self.bare(model_name))

    async def update_model_config(self, model_name: str, config: ModelConfig) -> None:
        """Run a model in another way until the provider is made again; a loaded one is loaded anew at its next use.

        The configuration's file is not changed; see :class:`~gpux.chat.configuration.ModelConfigurationService`.

        Raises:
            ModelNotFoundError: there is no such model in the precision of the new configuration.
        """
        await self.initialize()
        bare = self.bare(model_name)
        before = self._configs.get(bare)
        loaded = await self.is_model_loaded(bare)
        previous = self._reference(bare)
        self._configs[bare] = config
        try:
            self._core.models.find(self._reference(bare), TASKS)
        except GpuxError:
            self._configs.pop(bare)
            if before is not None:
                self._configs[bare] = before
            raise
        if loaded:
            await self._core.models.unload(previous)

    def _config(self, model: str) -> ModelConfig:
        configured = self.setup.configuration.models
        base, _, last = model.rpartition(":")
        plain = base if base and names_precision(last) else model
        for name in (model, plain):
            if (found := self._configs.get(name) or configured.get(f"{self.prefix}{name}")) is not None:
                return found
        return model_config(self.setup.configuration, f"{self.prefix}{model}")

    def _reference(self, model: str) -> str:
        """The name of a model in the store: with the configured precision, where the name has none."""
        config = self._config(model)
        named = names_precision(model.rpartition(":")[2]) and ":" in model
        name = self._local(model) or model
        return name if config.precision is None or named else f"{name}:{canonical_precision(config.precision)}"

    def _local(self, model: str) -> str | None:
        """The folder of a model in ``models_path``, if there is one of that name."""
        folder = self.setup.configuration.models_path
        if folder is None or model in ("", ".", "..") or any(letter in model for letter in "/\\:\0"):
            return None
        path = Path(folder).expanduser() / model
        return str(path) if path.is_dir() else None

    @asynccontextmanager
    async def _lease(self, model: str) -> AsyncIterator[Loaded]:
        """A loaded model, within the time limit of the provider."""
        config = self._config(model)
        reference = self._reference(model)
        stored = await self._core.models.found(reference, TASKS)
        needed = estimate(stored, self._core.settings.cache_bytes)
        if config.max_memory is not None and needed > config.max_memory:
            raise DoesNotFitError(
                f"{model} needs about {format_bytes(needed)}, and its configuration allows "
                f"{format_bytes(config.max_memory)}",
                hint="Name a smaller precision, such as :int4, or raise max_memory of the model.",
                needed=needed,
                limit=config.max_memory,
                model=model,
            )
        device = _DEVICES.get(config.device, config.device)
        seconds = self.setup.config.timeout_ms / 1000
        await self._follow(reference, stored, device, config.enable_cache)
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(seconds):
                    leased = self._core.models.lease(reference, TASKS, device=device, keep_prompts=config.enable_cache)
                    loaded = await stack.enter_async_context(leased)
            except TimeoutError:
                raise DeadlineError(
                    f"{model} was not loaded within {seconds:g} s",
                    hint="The load continues: send the request again later, or set MODEL_LOAD_TIMEOUT_MS to more.",
                    model=model,
                ) from None
            yield loaded

    async def _follow(self, reference: str, stored: StoredModel, device: str | None, caches: bool) -> None:
        """Unload a model that was loaded as an earlier configuration says; one that answers is used as it is."""
        wanted = (device, caches)
        if self._used.setdefault(reference, wanted) == wanted:
            return
        loaded = next((one for one in self._core.models.loaded() if one.model.path == stored.path), None)
        if loaded is None or loaded.idle:
            self._used[reference] = wanted
        if loaded is not None and loaded.idle and not loaded.pinned:
            await self._core.models.unload(reference)

    # Answers

    async def _stream(self, request: ChatRequest) -> AsyncGenerator[Delta | Finished]:
        async with self._lease(request.model) as loaded:
            messages = await self._fitting(loaded, request)
            generate = Generate(0, [[_plain(one) for one in messages]], _call(request.options), parsing=Parsing("none"))
            prepared(loaded, generate)
            async with aclosing(self._core.generate(loaded, generate)) as replies:
                async for reply in replies:
                    if isinstance(reply, Piece):
                        for delta in deltas(reply):
                            yield delta
                    else:
                        yield _finished(reply)
                        return

    async def _fitting(self, loaded: Loaded, request: ChatRequest) -> Sequence[Message]:
        context = loaded.worker.info.context_length
        if context is None:
            return request.messages

        async def count(messages: Sequence[Message]) -> int:
            counted = await self._core.count(loaded, Count(0, [[_plain(one) for one in messages]]))
            return counted.tokens[0]

        return await fitting(request.messages, context - room_for_answer(context, request.options.max_tokens), count)


def _plain(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": message.content}


def _call(options: ChatOptions) -> dict[str, Any]:
    """The options of the pipeline's call."""
    found = {_OPTIONS.get(name, name): getattr(options, name) for name in options.__struct_fields__}
    if options.top_p is not None:
        found["top_p"] = max(options.top_p, _LEAST_SHARE)
    found["stop"] = list(options.stop) or None
    return {name: value for name, value in found.items() if value is not None}


def deltas(piece: Piece) -> list[Delta]:
    """The texts of a piece, thoughts apart from the answer; calls of tools do not occur."""
    if not piece.parts:
        return [Delta(text=piece.text)] if piece.text else []
    return [
        Delta(reasoning=one.text) if one.kind == "reasoning" else Delta(text=one.text)
        for one in piece.parts
        if one.text and one.kind in ("reasoning", "content")
    ]


def _finished(reply: Generated) -> Finished:
    one = reply.sequences[0]
    if one.finish_reason == "cancelled":
        raise CancelledError("the server ended the generation", hint="Send the message again.")
    return Finished(
        reason="length" if one.finish_reason in ("length", "deadline") else "stop",
        prompt_tokens=one.prompt_tokens,
        completion_tokens=one.tokens,
    )
