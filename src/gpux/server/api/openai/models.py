"""``/v1/models``."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from starlette.responses import Response

from gpux.model.variant import StoredModel
from gpux.server.api.endpoint import Call
from gpux.server.http import json_response


async def list_models(call: Call) -> Response:
    """Every stored model."""
    found = {model.id: _model(model) for model in call.core.models.stored()}
    return json_response({"object": "list", "data": list(found.values())})


async def get_model(call: Call) -> Response:
    """One stored model; an id may contain slashes."""
    return json_response(_model(call.core.models.find(call.path["id"])))


def _model(model: StoredModel) -> dict[str, Any]:
    created = int(datetime.fromisoformat(model.manifest.created).timestamp()) if model.manifest.created else 0
    return {"id": model.id, "object": "model", "created": created, "owned_by": model.id.partition("/")[0]}
