"""Stored and loaded models: ``/api/tags``, ``ps``, ``show`` and ``delete``."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from gpux import __version__
from gpux.model.variant import StoredModel
from gpux.server.api.endpoint import Call
from gpux.server.api.ollama.facts import capabilities, defaults, details, digest, model_info, template, usable
from gpux.server.api.ollama.generation import timestamp
from gpux.server.api.ollama.names import Named, name_of_listed, name_of_loaded
from gpux.server.http import json_response
from gpux.server.models import Loaded
from gpux.server.names import Listed
from gpux.store import Store

#: The release of Ollama whose API this is. Clients compare it with the one that they need.
API_VERSION = "0.33.0"
#: When a model is unloaded that never is; Ollama's own largest duration ends in this year.
_NEVER = "2318-01-01T00:00:00Z"


class ShowRequest(Named, kw_only=True):
    """The body of ``show``."""

    verbose: bool | None = None
    system: str | None = None
    template: str | None = None
    options: dict[str, Any] | None = None


class DeleteRequest(Named, kw_only=True):
    """The body of ``delete``."""


async def version(call: Call) -> Response:
    """The version of Ollama's API, and of gpux."""
    return json_response({"version": API_VERSION, "gpux": __version__})


async def tags(call: Call) -> Response:
    """The stored models that this API can run: those that generate texts, and those that give vectors."""
    listing = call.core.models.listing()
    return json_response(
        {"models": await asyncio.to_thread(lambda: [_tag(one) for one in listing if usable(one.task)])}
    )


async def ps(call: Call) -> Response:
    """The loaded models."""
    loaded = call.core.models.loaded()
    return json_response({"models": await asyncio.to_thread(lambda: [_running(one) for one in loaded])})


async def show(call: Call) -> Response:
    """One stored model, by any of its names."""
    body: ShowRequest = call.body
    models = call.core.models
    model = models.find(body.chosen)
    loaded = next((one for one in models.loaded() if one.model.path == model.path), None)
    context = None if loaded is None else loaded.worker.info.context_length
    return json_response(await asyncio.to_thread(_shown, model, body.chosen, context))


async def delete(call: Call) -> Response:
    """Remove the stored variant that a name stands for, after its requests."""
    body: DeleteRequest = call.body
    models = call.core.models
    model = models.find(body.chosen)
    await models.unload(body.chosen)
    store = Store(call.core.settings.gpux.store)
    await asyncio.to_thread(lambda: store.removal_plan([model]).execute())
    models.store_changed()
    return Response(status_code=200)


def _tag(listed: Listed) -> dict[str, Any]:
    name = name_of_listed(listed)
    return {
        "name": name,
        "model": name,
        "modified_at": timestamp(datetime.fromtimestamp(listed.created, UTC)),
        "size": listed.bytes,
        "digest": digest(listed.model),
        "details": details(listed.model),
    }


def _running(loaded: Loaded) -> dict[str, Any]:
    name, expires = name_of_loaded(loaded), loaded.expires_at
    size = loaded.memory_bytes
    return {
        "name": name,
        "model": name,
        "size": size,
        "digest": digest(loaded.model),
        "details": details(loaded.model),
        "expires_at": _NEVER if expires is None else timestamp(datetime.fromtimestamp(expires, UTC)),
        "size_vram": 0 if loaded.worker.info.device == "cpu" else size,
        "context_length": loaded.worker.info.context_length or 0,
    }


def _shown(model: StoredModel, name: str, context: int | None) -> dict[str, Any]:
    manifest, lines = model.manifest, defaults(model)
    parameters = "".join(f"PARAMETER {line}\n" for line in lines.splitlines())
    return {
        "modelfile": f"FROM {name}\n{parameters}",
        "parameters": lines,
        "template": template(model),
        "license": manifest.license or "",
        "details": details(model),
        "model_info": model_info(model, context),
        "capabilities": capabilities(model),
        "modified_at": _modified(manifest.created),
    }


def _modified(created: str) -> str:
    try:
        return timestamp(datetime.fromisoformat(created).astimezone(UTC))
    except ValueError:
        return timestamp(datetime.fromtimestamp(0, UTC))
