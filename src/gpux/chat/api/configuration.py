"""The configuration of chats over HTTP: read, changed, read again from the file, and rolled back; usage statistics.

Changes are written into the configuration file, whose comments stay, and are in force when the response arrives.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import date
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, UnsetType
from starlette.responses import Response

from gpux.chat.codes import ErrorCode, error_body, error_code
from gpux.chat.database.values import UsageStats
from gpux.chat.provider import checked_options
from gpux.chat.service import ChatService, chat_of
from gpux.chat.values import ModelConfig, ProviderConfig, Value
from gpux.errors import ConfigurationError, ForbiddenError, ProviderNotFoundError, UsageError
from gpux.server.api.endpoint import Api, Call, Endpoint
from gpux.server.http import json_response, read_json
from gpux.server.security.redaction import clean, shown

T = TypeVar("T", ProviderConfig, ModelConfig)


class Change(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of bodies whose fields replace those of a configuration; the others stay."""

    def values(self) -> dict[str, Any]:
        """The fields that are given."""
        given = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in given.items() if value is not UNSET}


class ProviderChange(Change, frozen=True, kw_only=True):
    """Fields of :class:`~gpux.chat.values.ProviderConfig`."""

    name: str | UnsetType = UNSET  #: the same as in the path
    type: str | UnsetType | None = UNSET
    prefix: str | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    priority: int | UnsetType = UNSET
    default_models: tuple[str, ...] | UnsetType = UNSET
    max_concurrent_models: int | UnsetType = UNSET
    timeout_ms: int | UnsetType = UNSET
    retry_attempts: int | UnsetType = UNSET
    base_url: str | UnsetType | None = UNSET
    api_key_env: str | UnsetType | None = UNSET
    api_key_keyring: str | UnsetType | None = UNSET


class OptionsChange(Change, frozen=True, kw_only=True):
    """Fields of :class:`~gpux.chat.values.ChatOptions`; those that are not given have no default of the model."""

    temperature: float | UnsetType | None = UNSET
    top_p: float | UnsetType | None = UNSET
    top_k: int | UnsetType | None = UNSET
    min_p: float | UnsetType | None = UNSET
    max_tokens: int | UnsetType | None = UNSET
    stop: tuple[str, ...] | UnsetType = UNSET
    seed: int | UnsetType | None = UNSET
    presence_penalty: float | UnsetType | None = UNSET
    frequency_penalty: float | UnsetType | None = UNSET
    repetition_penalty: float | UnsetType | None = UNSET


class ModelChange(Change, frozen=True, kw_only=True):
    """Fields of :class:`~gpux.chat.values.ModelConfig`."""

    model_name: str | UnsetType = UNSET  #: the same as in the path
    provider: str | UnsetType = UNSET  #: that of the model's prefix
    device: Literal["auto", "cpu", "cuda", "mps"] | UnsetType = UNSET
    precision: Literal["float32", "float16", "int8", "int4"] | UnsetType | None = UNSET
    max_memory: int | UnsetType | None = UNSET
    enable_cache: bool | UnsetType = UNSET
    cache_directory: str | UnsetType | None = UNSET
    timeout_ms: int | UnsetType = UNSET
    retry_attempts: int | UnsetType = UNSET
    options: OptionsChange | UnsetType = UNSET
    fallback_models: tuple[str, ...] | UnsetType = UNSET


class Fault(Value, frozen=True, kw_only=True, omit_defaults=True):
    """One invalid value of the configuration."""

    message: str
    source: str  #: name of the file, or of a variable
    line: int | None = None
    key: str | None = None
    hint: str | None = None


class Refused(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A configuration that is not put in force."""

    error: str
    code: str
    error_code: ErrorCode
    hint: str | None = None
    faults: tuple[Fault, ...] = ()


class ConfigurationState(Value, frozen=True, kw_only=True):
    """What is in force."""

    state: Literal["ok", "degraded"]
    version: int | None = None  #: in the file, of those that are kept
    warnings: tuple[Fault, ...] = ()


class RollbackRequest(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which version."""

    version: int | None = None  #: null: the one before that in the file


class ChatUsage(Value, frozen=True, kw_only=True):
    """Answers by day, provider and model."""

    usage: list[UsageStats]
    count: int


# Providers and models


async def get_provider(call: Call) -> Response:
    """The configuration of a chat provider that is in force."""
    chat = await chat_of(call.core)
    configuration = chat.configuration
    return json_response(configuration.with_defaults(configuration.get_provider_config(call.path["name"])))


#: Where the server connects to, which secret it sends there, and which folder it writes to.
_WITH_A_KEY = ("base_url", "api_key_env", "api_key_keyring", "cache_directory")


async def put_provider(call: Call) -> Response:
    """Change fields of a chat provider's configuration, or add a provider.

    A field with the value that GET answers is not changed: a default stays a default, and a masked address is not
    written.

    Raises:
        ForbiddenError: see :func:`_check_key`.
    """
    chat = await chat_of(call.core)
    name = call.path["name"]
    values = call.body.values()
    try:
        present = chat.configuration.get_provider_config(name)
    except ProviderNotFoundError:
        present = ProviderConfig(name=name)
    else:
        used = chat.configuration.with_defaults(present)
        if values.get("type", used.type) == used.type:  # the defaults of another type are others
            values = {field: value for field, value in values.items() if value != getattr(used, field)}
    wanted = msgspec.structs.replace(present, **values)
    _check_key(call, present, wanted)
    return await _changed(chat, lambda: chat.configuration.update_provider_config(name, wanted), wanted)


async def get_model(call: Call) -> Response:
    """The configuration of a model that is in force: its own, or the defaults."""
    chat = await chat_of(call.core)
    return json_response(chat.configuration.get_model_config(call.path["model"]))


async def put_model(call: Call) -> Response:
    """Change fields of a model's configuration.

    Raises:
        ForbiddenError: see :func:`_check_key`.
    """
    chat = await chat_of(call.core)
    present = chat.configuration.get_model_config(call.path["model"])
    values = call.body.values()
    if "options" in values:
        values["options"] = checked_options(values["options"].to_dict())
    wanted = msgspec.structs.replace(present, **values)
    _check_key(call, present, wanted)
    name = present.model_name
    return await _changed(chat, lambda: chat.configuration.update_model_config(name, wanted), wanted)


def _check_key(call: Call, present: T, wanted: T) -> None:
    """Let requests with a key alone change what leads out of the server.

    Raises:
        ForbiddenError: the server has no keys: any program of the machine could let it send a secret to itself, or
            write into a folder of its choice.
    """
    if call.core.settings.api_keys is not None:
        return
    for field in _WITH_A_KEY:
        if getattr(wanted, field, None) != getattr(present, field, None):
            raise ForbiddenError(
                f"{field} is changed in the configuration file, or with a key",
                hint="Write it into the file that `gpux config path` names, or start the server with keys.",
                param=field,
            )


async def _changed(
    chat: ChatService, change: Callable[[], Awaitable[None]], wanted: ProviderConfig | ModelConfig
) -> Response:
    try:
        await change()
    except ConfigurationError as error:
        return _refused(error)
    await chat.configuration.applied()
    answered = chat.configuration.with_defaults(wanted) if isinstance(wanted, ProviderConfig) else wanted
    return json_response(answered)


# The file


async def reload(call: Call) -> Response:
    """Read the file again; where it has faults, the configuration before it stays in force."""
    chat = await chat_of(call.core)
    try:
        await chat.configuration.reload_configurations()
    except ConfigurationError as error:
        return _refused(error)
    await chat.configuration.applied()
    return json_response(_state(chat))


async def rollback(call: Call) -> Response:
    """Write an earlier version into the file, and put it in force."""
    chat = await chat_of(call.core)
    asked = await read_json(call.request, RollbackRequest, call.core.settings, empty=RollbackRequest())
    try:
        await chat.configuration.rollback(asked.version)
    except ConfigurationError as error:
        return _refused(error)
    await chat.configuration.applied()
    return json_response(_state(chat))


def _state(chat: ChatService) -> ConfigurationState:
    configuration = chat.configuration
    warnings = [msgspec.convert(one, Fault) for one in configuration.document()["warnings"]]
    return ConfigurationState(
        state=configuration.state,
        version=next((one.number for one in configuration.versions() if one.in_file), None),
        warnings=tuple(map(_without_folder, warnings)),
    )


def _refused(error: ConfigurationError) -> Response:
    """The error with the places of its faults, which is for those who may change the file."""
    faults = tuple(_without_folder(msgspec.convert(one, Fault)) for one in error.details.get("faults", ()))
    found = shown(error)
    body = Refused(error=found.message, code=found.code, error_code=error_code(error), hint=found.hint, faults=faults)
    return json_response(body, error.http_status)


def _without_folder(fault: Fault) -> Fault:
    source = fault.source.replace("\\", "/").rpartition("/")[2]
    return msgspec.structs.replace(fault, source=source, message=clean(fault.message))


# Usage


async def usage(call: Call) -> Response:
    """Requests, failures, tokens and times of answers, the last day first."""
    chat = await chat_of(call.core)
    query = call.query
    found = await chat.database.usage.list(
        provider=query.get("provider") or None,
        model_name=query.get("model") or None,
        since=_day(query, "since"),
        until=_day(query, "until"),
    )
    return json_response(ChatUsage(usage=found, count=len(found)))


def _day(query: Mapping[str, str], name: str) -> date | None:
    text = query.get(name)
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{name} is not a date", hint=f"Write {name}=2026-01-31.", param=name) from None


_USAGE = {
    "provider": "Name of a chat provider",
    "model": "Name of a model, with the prefix of its provider",
    "since": "First day, in UTC: 2026-01-31",
    "until": "Last day",
}

API = Api(
    "chat-configuration",
    "/api/config",
    (
        Endpoint(
            "GET",
            "/api/providers/{name}/config",
            get_provider,
            "read",
            answer=ProviderConfig,
            summary="Configuration of a chat provider",
        ),
        Endpoint(
            "PUT",
            "/api/providers/{name}/config",
            put_provider,
            "manage",
            ProviderChange,
            answer=ProviderConfig,
            summary="Change the configuration of a chat provider",
        ),
        Endpoint(
            "GET",
            "/api/models/{model:path}/config",
            get_model,
            "read",
            answer=ModelConfig,
            summary="Configuration of a model",
        ),
        Endpoint(
            "PUT",
            "/api/models/{model:path}/config",
            put_model,
            "manage",
            ModelChange,
            answer=ModelConfig,
            summary="Change the configuration of a model",
        ),
        Endpoint(
            "POST",
            "/api/config/reload",
            reload,
            "manage",
            answer=ConfigurationState,
            summary="Read the configuration again",
        ),
        Endpoint(
            "POST",
            "/api/config/rollback",
            rollback,
            "manage",
            answer=ConfigurationState,
            summary="Restore a configuration",
        ),
        Endpoint(
            "GET", "/api/usage", usage, "read", answer=ChatUsage, query=_USAGE, summary="Usage statistics of chats"
        ),
    ),
    error_body,
    more_prefixes=("/api/providers", "/api/models", "/api/usage"),
)
