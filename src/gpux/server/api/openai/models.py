"""``/v1/models``."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime
from typing import Any

from starlette.responses import Response

from gpux.errors import ModelNotFoundError
from gpux.model.reference import ModelRef
from gpux.model.variant import StoredModel
from gpux.server.api.endpoint import Call
from gpux.server.http import json_response
from gpux.server.models import Models


async def list_models(call: Call) -> Response:
    """Every name by which a stored model is served: ``org/name``, and ``org/name:int4`` for each precision."""
    return json_response({"object": "list", "data": await asyncio.to_thread(_served, call.core.models)})


async def get_model(call: Call) -> Response:
    """One stored model; an id may contain slashes."""
    name = call.path["id"]
    found = await asyncio.to_thread(call.core.models.find, name)
    return json_response(_model(str(ModelRef.parse(name)), found))


def _served(models: Models) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for model in models.stored():
        for precision in (None, model.manifest.precision):
            name = str(ModelRef(model.manifest.scheme, model.id, precision=precision))
            if name not in found:
                with suppress(ModelNotFoundError):  # of an earlier commit, which only a revision names
                    found[name] = _model(name, models.find(name))
    return list(found.values())


def _model(name: str, model: StoredModel) -> dict[str, Any]:
    created = int(datetime.fromisoformat(model.manifest.created).timestamp()) if model.manifest.created else 0
    owner = model.id.partition("/")[0] if model.manifest.scheme == "hf" else model.manifest.scheme
    return {"id": name, "object": "model", "created": created, "owned_by": owner}
