"""``/v1/models``."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.responses import Response

from gpux.server.api.endpoint import Call
from gpux.server.http import json_response
from gpux.server.models import Models
from gpux.server.names import Listed


async def list_models(call: Call) -> Response:
    """Every stored model by its shortest name, and with its precision: ``org/name`` and ``org/name:int4``."""
    names = await asyncio.to_thread(_names, call.core.models)
    return json_response({"object": "list", "data": [_model(name, listed) for name, listed in names.items()]})


async def get_model(call: Call) -> Response:
    """One stored model by any of its names; an id may contain slashes."""
    return json_response(await asyncio.to_thread(_found, call.core.models, call.path["id"]))


def _names(models: Models) -> dict[str, Listed]:
    found = {}
    for listed in models.listing():
        found[listed.name] = listed
        if not listed.name.endswith(f":{listed.precision}"):
            found[f"{listed.name}:{listed.precision}"] = listed
    return found


def _found(models: Models, name: str) -> dict[str, Any]:
    names = _names(models)
    if name in names:
        return _model(name, names[name])
    listed = models.listed(name)
    return _model(listed.name, listed)


def _model(name: str, listed: Listed) -> dict[str, Any]:
    scheme = listed.model.manifest.scheme
    owner = listed.id.partition("/")[0] if scheme == "hf" else scheme
    return {"id": name, "object": "model", "created": listed.created, "owned_by": owner}
