"""``GET /api/models/health`` and ``GET /api/providers/{name}/health``: who can answer now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec
from starlette.responses import Response

from gpux.chat.codes import ErrorCode, error_body, error_code
from gpux.chat.service import ChatService, chat_of
from gpux.chat.values import ProviderHealth, Value
from gpux.errors import GpuxError
from gpux.server.api.endpoint import Api, Call, Endpoint
from gpux.server.http import json_response
from gpux.server.security.redaction import clean, shown

Status = Literal["healthy", "degraded", "unhealthy"]


class Problem(Value, frozen=True, kw_only=True):
    """Why a part does not work."""

    error: str
    code: str
    error_code: ErrorCode
    hint: str | None = None


class ModelHealth(Value, frozen=True, kw_only=True):
    """A model in memory."""

    name: str
    provider: str
    memory_bytes: int | None = None


class MemoryHealth(Value, frozen=True, kw_only=True):
    """Bytes that the models of this server take."""

    total: int
    limit: int | None = None
    available: int | None = None


class ConfigurationHealth(Value, frozen=True, kw_only=True):
    """Whether the configuration file is the one in force."""

    state: Literal["ok", "degraded"]
    line: int | None = None
    key: str | None = None
    problem: Problem | None = None


class ChatHealth(Value, frozen=True, kw_only=True):
    """The state of chats: ``degraded`` where some providers, the configuration or the database do not work."""

    healthy: bool  #: whether any provider can answer
    status: Status
    last_checked: datetime
    providers: list[ProviderHealth]
    models: list[ModelHealth]
    memory: MemoryHealth
    configuration: ConfigurationHealth
    database: Problem | None  #: null: it works


async def models_health(call: Call) -> Response:
    """All chat providers, the models in memory, the configuration and the database."""
    chat = await chat_of(call.core)
    return json_response(await health(chat))


async def provider_health(call: Call) -> Response:
    """One chat provider, checked now."""
    chat = await chat_of(call.core)
    return json_response(_shown(await chat.lifecycle.health.check(call.path["name"])))


async def health(chat: ChatService) -> ChatHealth:
    """The state of chats; providers that were not checked for an interval are checked now."""
    providers = await provider_states(chat)
    configuration = _configuration(chat)
    database = await _database(chat)
    healthy = any(one.healthy for one in providers)
    whole = all(one.status == "healthy" for one in providers) and configuration.state == "ok" and database is None
    usage = chat.lifecycle.memory.usage()
    return ChatHealth(
        healthy=healthy,
        status="unhealthy" if not healthy else "healthy" if whole else "degraded",
        last_checked=max((one.last_checked for one in providers if one.last_checked), default=datetime.now(UTC)),
        providers=providers,
        models=[
            ModelHealth(name=one.name, provider=one.provider, memory_bytes=one.memory_bytes)
            for one in await chat.lifecycle.tracker.loaded()
        ],
        memory=MemoryHealth(total=usage.total, limit=usage.limit, available=usage.available),
        configuration=configuration,
        database=database,
    )


async def provider_states(chat: ChatService) -> list[ProviderHealth]:
    """The last checks of all providers, which are made now where one is older than the configured interval."""
    monitor = chat.lifecycle.health
    known = [monitor.known(one.name) for one in chat.registry.get_all_providers()]
    oldest = datetime.now(UTC) - timedelta(milliseconds=chat.configuration.current.health_check_interval_ms)
    if any(one.last_checked is None or one.last_checked < oldest for one in known):
        known = await monitor.check_all()
    return [_shown(one) for one in known]


def _shown(found: ProviderHealth) -> ProviderHealth:
    """Without paths and addresses of this machine."""
    return found if found.error is None else msgspec.structs.replace(found, error=clean(found.error))


def _configuration(chat: ChatService) -> ConfigurationHealth:
    error = chat.configuration.error
    if error is None:
        return ConfigurationHealth(state="ok")
    line, key = error.details.get("line"), error.details.get("key")
    return ConfigurationHealth(state="degraded", line=line, key=key, problem=_problem(error))


async def _database(chat: ChatService) -> Problem | None:
    try:
        await chat.database.check()
    except GpuxError as error:
        return _problem(error)
    return None


def _problem(error: GpuxError) -> Problem:
    found = shown(error)
    return Problem(error=found.message, code=found.code, error_code=error_code(error), hint=found.hint)


API = Api(
    "chat-health",
    "/api/models/health",
    (
        Endpoint("GET", "/api/models/health", models_health, "read", answer=ChatHealth, summary="Health of chats"),
        Endpoint(
            "GET",
            "/api/providers/{name}/health",
            provider_health,
            "read",
            answer=ProviderHealth,
            summary="Health of a chat provider",
        ),
    ),
    error_body,
)
