"""Conversations answered by a running Ollama (https://docs.ollama.com/api), with the models that it has.

Answers are those of Ollama itself: only the options that are given are sent, and reasoning comes apart where Ollama
sends it apart.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final

import msgspec

from gpux.chat.provider import ModelProvider, ProviderSetup
from gpux.chat.providers.connection import Connection, Refusal, api_key, checked_url, not_found
from gpux.chat.values import (
    ChatOptions,
    ChatRequest,
    Delta,
    Finished,
    FinishReason,
    Message,
    ModelCapabilities,
    ModelInfo,
    ModelMetadata,
    ProviderConfig,
)
from gpux.errors import ConfigurationError, GpuxError, ModelNotFoundError
from gpux.system.proxies import masked

#: Port of Ollama where its address has none, by the scheme of the address.
PORTS: Final = {"": 11434, "http": 80, "https": 443}
#: Addresses that a server listens on, and their counterparts to connect to.
CONNECTABLE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - replaced, not bound
#: name in :class:`ChatOptions` -> name in Ollama's ``options``
OPTIONS: Final = {"max_tokens": "num_predict", "repetition_penalty": "repeat_penalty"}
#: Requests for descriptions of models at the same time.
DESCRIBING: Final = 8
#: Seconds that a list waits for descriptions; those that come later are in the next list.
DESCRIBED_WITHIN: Final = 0.3
#: Families of models with a part that reads images, as lists name them.
VISION_FAMILIES: Final = frozenset({"clip", "mllama"})


class _Details(msgspec.Struct):
    family: str = ""
    families: list[str] | None = None
    parameter_size: str = ""
    quantization_level: str = ""


class _Tag(msgspec.Struct):
    """A model of a list."""

    name: str = ""
    model: str = ""
    digest: str = ""
    size: int | None = None
    modified_at: datetime | None = None
    details: _Details | None = None


class _Tags(msgspec.Struct):
    models: list[_Tag] | None = None


class _Shown(msgspec.Struct):
    """A model as ``/api/show`` describes it."""

    capabilities: list[str] | None = None
    model_info: dict[str, Any] | None = None
    details: _Details | None = None
    license: str | list[str] | None = None
    modified_at: datetime | None = None
    parameters: str = ""


class _Said(msgspec.Struct):
    content: str = ""
    thinking: str = ""


class _Line(msgspec.Struct):
    """A line of an answer."""

    message: _Said | None = None
    done: bool = False
    done_reason: str = ""
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    error: str | None = None


class OllamaProvider(ModelProvider):
    """A client of a running Ollama.

    Its address is ``base_url`` of the configuration, else ``OLLAMA_HOST``, else ``http://127.0.0.1:11434``; all in the
    forms that ``OLLAMA_HOST`` may have.
    """

    default_prefix: ClassVar[str] = "ollama:"

    def __init__(self, setup: ProviderSetup) -> None:
        super().__init__(setup)
        self._connection: Connection | None = None
        self._shown: dict[str, _Shown] = {}  #: by digest
        self._describing: asyncio.Task[None] | None = None

    async def unload_model(self, model_name: str) -> None:
        """Have Ollama remove a model from its memory; errors as those of :meth:`load_model`."""
        await self._keep(self.bare(model_name), {"keep_alive": 0})

    # What a provider implements

    async def _start(self) -> None:
        if self._connection is None:
            config = self.setup.config
            url = ollama_url(config.base_url or os.environ.get("OLLAMA_HOST", ""), config)
            self._connection = Connection(self.setup, url, await api_key(config))

    async def _close(self) -> None:
        if self._describing is not None:
            self._describing.cancel()
            await asyncio.wait({self._describing})
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()

    async def _check(self) -> None:
        await (await self._ready()).request("GET", "/api/version", dict)

    async def _models(self) -> list[ModelInfo]:
        connection = await self._ready()
        tags = await self._tags(connection, "/api/tags")
        await self._describe(connection, tags)
        return [self._info(one.model or one.name, one, self._shown.get(one.digest)) for one in tags]

    async def _find(self, model: str) -> ModelInfo | None:
        found = await self._show(await self._ready(), model)
        return None if found is None else self._info(model, _Tag(details=found.details), found)

    async def _details(self, model: str) -> dict[str, Any]:
        found = await self._show(await self._ready(), model)
        return {} if found is None else {"capabilities": found.capabilities or [], "parameters": found.parameters}

    def listed_name(self, model: str) -> str:
        """Ollama adds the tag ``latest`` to a name without one."""
        return model if ":" in model.rpartition("/")[2] else f"{model}:latest"

    async def _load(self, model: str) -> None:
        await self._keep(model, {})

    async def _loaded(self) -> list[str]:
        return [f"{self.prefix}{one.model or one.name}" for one in await self._tags(await self._ready(), "/api/ps")]

    async def _stream(self, request: ChatRequest) -> AsyncGenerator[Delta | Finished]:
        body: dict[str, Any] = {"model": request.model, "messages": [_message(one) for one in request.messages]}
        if options := _options(request.options):
            body["options"] = options
        connection = await self._ready()
        async with connection.stream("/api/chat", body, self._refusal(request.model)) as (_, lines):
            async for data in lines:
                line = connection.decoded(data, _Line)
                if line.error is not None:
                    raise connection.failed(line.error)
                if line.message is not None and (line.message.content or line.message.thinking):
                    yield Delta(text=line.message.content, reasoning=line.message.thinking)
                if line.done:
                    await connection.rest(lines)
                    yield _finished(line)
                    return
            raise connection.broken()

    # Inside

    async def _ready(self) -> Connection:
        await self.initialize()
        assert self._connection is not None
        return self._connection

    async def _tags(self, connection: Connection, path: str) -> list[_Tag]:
        found = await connection.request("GET", path, _Tags)
        return [one for one in found.models or () if one.model or one.name]

    def _refusal(self, model: str, *others: int) -> Refusal:
        """What 404, and other statuses, say about a model.

        Ollama answers JSON for a model that it does not have, and a text for a path that it does not have.
        """

        def refusal(status: int, said: str | None) -> GpuxError | None:
            if status not in (404, *others) or said is None:
                return None
            return not_found(self.name, model, f"`ollama pull {model}` downloads it, if Ollama's library has it.")

        return refusal

    async def _show(self, connection: Connection, model: str) -> _Shown | None:
        """The description of a model; None: there is no such model."""
        try:
            return await connection.request("POST", "/api/show", _Shown, {"model": model}, self._refusal(model, 400))
        except ModelNotFoundError:
            return None

    async def _keep(self, model: str, how: Mapping[str, Any]) -> None:
        """A chat without messages loads its model, or removes it from memory."""
        body = {"model": model, "messages": [], "stream": False, **how}
        async with (await self._ready()).stream("/api/chat", body, self._refusal(model)) as (_, lines):
            async for _line in lines:
                pass

    async def _describe(self, connection: Connection, tags: Sequence[_Tag]) -> None:
        """Read the descriptions of models that are new, since a list does not say what a model can do."""
        present = {one.digest for one in tags}
        self._shown = {digest: one for digest, one in self._shown.items() if digest in present}
        missing = [one for one in tags if one.digest and one.digest not in self._shown]
        if not missing:
            return
        if self._describing is None or self._describing.done():
            self._describing = asyncio.create_task(self._describe_all(connection, missing))
        await asyncio.wait({self._describing}, timeout=DESCRIBED_WITHIN)

    async def _describe_all(self, connection: Connection, tags: Sequence[_Tag]) -> None:
        limit = asyncio.Semaphore(DESCRIBING)

        async def describe(tag: _Tag) -> None:
            async with limit:
                try:
                    found = await self._show(connection, tag.model or tag.name)
                except GpuxError:  # the next list tries again
                    return
            if found is not None:
                self._shown[tag.digest] = found

        await asyncio.gather(*(describe(one) for one in tags))

    def _info(self, name: str, tag: _Tag, shown: _Shown | None) -> ModelInfo:
        details = tag.details or (shown and shown.details) or _Details()
        known = (shown and shown.model_info) or {}
        architecture = str(known.get("general.architecture") or details.family) or None
        if shown is not None and shown.capabilities is not None:
            sees = "vision" in shown.capabilities
        else:
            sees = not VISION_FAMILIES.isdisjoint(details.families or ())
        words = (details.family, details.parameter_size, details.quantization_level)
        return ModelInfo(
            name=f"{self.prefix}{name}",
            provider=self.name,
            display_name=name,
            description=", ".join(one for one in words if one) or None,
            capabilities=ModelCapabilities(
                supports_vision=sees,
                supports_streaming=True,
                max_context_length=_number(known.get(f"{architecture}.context_length")),
            ),
            metadata=ModelMetadata(
                size=tag.size,
                parameters=_number(known.get("general.parameter_count")) or _parameters(details.parameter_size),
                architecture=architecture,
                license=_license(shown),
                last_updated=tag.modified_at or (shown and shown.modified_at) or None,
            ),
        )


def ollama_url(text: str, config: ProviderConfig) -> str:
    """The URL of an Ollama, from an address in any form that Ollama itself reads from ``OLLAMA_HOST``.

    Those are a host, a port with a colon, both, an IPv6 address with or without brackets, a URL with or without a path,
    and an empty text. The port is 11434 without a scheme, else the scheme's. An address that a server listens on, such
    as ``0.0.0.0``, means this machine.

    Raises:
        ConfigurationError: it has none of these forms. (Ollama itself replaces an invalid port.)
    """
    text = text.strip().strip("\"'").strip()
    if text == "ollama.com":
        text = "https://ollama.com"
    scheme, _, rest = text.rpartition("://")
    scheme = scheme.lower()
    place, slash, path = rest.partition("/")
    host, port = _host_and_port(place)
    if scheme not in PORTS or not (port or str(PORTS[scheme])).isdecimal() or int(port or 1) > 65535:
        raise ConfigurationError(
            f"the address of the chat provider {config.name} is invalid: {masked(text)!r}",
            hint="Write it as host:port or http://host:port.",
            key=f"providers.{config.name}.base_url",
        )
    host = CONNECTABLE.get(host, host) or "127.0.0.1"
    host = f"[{host}]" if ":" in host else host
    return checked_url(f"{scheme or 'http'}://{host}:{port or PORTS[scheme]}{slash}{path}", config)


def _host_and_port(place: str) -> tuple[str, str]:
    """The parts of ``host:port``, of which each may be missing."""
    try:
        return ipaddress.ip_address(place.strip("[]")).compressed, ""  # without a port: an IPv6 address has colons
    except ValueError:
        host, _, port = place.rpartition(":") if ":" in place else (place, "", "")
    try:
        return ipaddress.ip_address(host.strip("[]")).compressed, port
    except ValueError:
        return host, port


def _message(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.images:
        found["images"] = [base64.b64encode(one.data).decode() for one in message.images]
    return found


def _options(options: ChatOptions) -> dict[str, Any]:
    given = {name: getattr(options, name) for name in options.__struct_fields__}
    return {OPTIONS.get(name, name): value for name, value in given.items() if value not in (None, ())}


def _finished(line: _Line) -> Finished:
    reason: FinishReason = "length" if line.done_reason == "length" else "stop"
    return Finished(reason=reason, prompt_tokens=line.prompt_eval_count, completion_tokens=line.eval_count)


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _parameters(text: str) -> int | None:
    """The number of ``3.2B``."""
    units = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
    try:
        return round(float(text[:-1]) * units[text[-1:].upper()])
    except (KeyError, ValueError, OverflowError):
        return None


def _license(shown: _Shown | None) -> str | None:
    """The first line of the licenses' texts, which is their title."""
    found = shown.license if shown is not None else None
    text = found[0] if isinstance(found, list) and found else found
    return text.strip().partition("\n")[0].strip()[:100] or None if isinstance(text, str) else None
