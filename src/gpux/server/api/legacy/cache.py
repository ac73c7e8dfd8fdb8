"""``/cache``: the models that are loaded."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from gpux.server.api.endpoint import Call
from gpux.server.api.legacy import opened
from gpux.server.api.legacy.shapes import not_found, states_of
from gpux.server.http import json_response
from gpux.server.registry import iso


class CachedModel(msgspec.Struct):
    """A loaded model."""

    loaded_at: str
    device: str
    model_type: str  #: as registered; of a model that is not registered, its task


class CacheAnswer(msgspec.Struct):
    """The loaded models by their ids, and the pipelines that they answer with."""

    cached_models: dict[str, CachedModel]
    cached_pipelines: list[str]  #: ``<model id>_<task>``
    total_cached: int  #: models
    success: bool = True


class MessageAnswer(msgspec.Struct):
    """That something was done."""

    message: str
    success: bool = True


async def get_cache(call: Call) -> Response:
    """Every loaded model: under each id that it is registered by, else under the name that it was loaded by."""
    types = {model.model_id: model.model_type for model in (await call.core.registry.contents()).models}
    states = await states_of(call, types)
    entries = [(name, state.loaded) for name, state in states.items() if state.loaded is not None]
    known = {one for _, one in entries}
    entries += [(one.name, one) for one in call.core.models.loaded() if one not in known]
    models = {
        name: CachedModel(iso(one.loaded_at), one.worker.info.device, types.get(name, one.task))
        for name, one in entries
    }
    pipelines = [f"{name}_{task}" for name, one in entries for task in opened.tasks(one.worker, one.task)]
    return json_response(CacheAnswer(models, pipelines, len(models)))


async def clear_cache(call: Call) -> Response:
    """Unload every model, or the one of ``model_id``, after the requests that run on it."""
    models = call.core.models
    model_id = call.query.get("model_id")
    if model_id is None:
        await models.unload_all()
        return json_response(MessageAnswer("All caches cleared"))
    if models.get(model_id) is not None:
        await models.unload(model_id)
    elif await call.core.registry.get(model_id) is None:
        raise not_found(model_id)
    return json_response(MessageAnswer(f"Cache cleared for model '{model_id}'"))
