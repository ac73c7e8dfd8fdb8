"""``/models``: the registry of models, and loading one of them."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from starlette.responses import Response

from gpux.errors import UsageError
from gpux.model.reference import ModelRef
from gpux.model.tasks import canonical, task_named
from gpux.server.api.endpoint import Call
from gpux.server.api.legacy.shapes import (
    Model,
    ModelInfo,
    check_parameters,
    model_info,
    not_found,
    registered,
    require,
    shown,
    stored,
)
from gpux.server.http import decode_json, json_response, read_body
from gpux.system.plugins import registered as plugins

#: The types that the API documents; a model may have any other task too.
MODEL_TYPES = (
    "text-generation",
    "conversational",
    "text2text-generation",
    "summarization",
    "translation",
    "question-answering",
    "fill-mask",
    "sentiment-analysis",
)


class NewModel(msgspec.Struct):
    """The body that registers a model; other keys are ignored."""

    model_id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    model_type: str | UnsetType = UNSET
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ChangedModel(msgspec.Struct):
    """The body that changes a model; keys that cannot be changed, and other keys, are ignored."""

    name: str | None = None
    model_type: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None


class LoadBody(msgspec.Struct):
    """The body that loads a model; it may be missing."""

    force_reload: bool = False


class ModelsAnswer(msgspec.Struct):
    """Every registered model, or those of a type."""

    models: list[Model]
    count: int
    success: bool = True


class ModelAnswer(msgspec.Struct):
    """One registered model."""

    model: Model
    success: bool = True


class ChangedAnswer(msgspec.Struct):
    """A model that was registered or changed."""

    model: Model
    message: str
    success: bool = True


class ModelsData(msgspec.Struct):
    """The registry after a change."""

    models: list[Model]
    last_updated: str
    count: int


class RemovedAnswer(msgspec.Struct):
    """What is left after a model was removed from the registry."""

    message: str
    models_data: ModelsData
    success: bool = True


class LoadedAnswer(msgspec.Struct):
    """A model that was loaded."""

    message: str
    model_info: ModelInfo
    device: str  #: that runs the model
    success: bool = True


async def list_models(call: Call) -> Response:
    """Every registered model; ``type`` selects those of a type, as it was given when they were registered."""
    models = (await call.core.registry.contents()).models
    if (wanted := call.query.get("type")) is not None:
        models = tuple(model for model in models if model.model_type == wanted)
    return json_response(ModelsAnswer(await shown(call, models), len(models)))


async def add_model(call: Call) -> Response:
    """Register a model; nothing is pulled or loaded."""
    body: NewModel = call.body
    require(body, "model_id", "name", "model_type")
    model_id, name, model_type = str(body.model_id), str(body.name), str(body.model_type)
    ModelRef.parse(model_id)  # raises for a text that names no model
    _check_type(model_type)
    check_parameters(body.parameters)
    made = await call.core.registry.add(model_id, name, model_type, body.description or "", body.parameters or {})
    message = f"Model '{model_id}' added successfully"
    return json_response(ChangedAnswer((await shown(call, [made]))[0], message))


async def get_model(call: Call) -> Response:
    """One registered model."""
    found = await registered(call, call.path["model_id"])
    return json_response(ModelAnswer((await shown(call, [found]))[0]))


async def change_model(call: Call) -> Response:
    """Change a registered model: each field that is given is replaced, ``parameters`` as a whole."""
    body: ChangedModel = call.body
    model_id = call.path["model_id"]
    await registered(call, model_id)
    if body.model_type is not None:
        _check_type(body.model_type)
    check_parameters(body.parameters)
    made = await call.core.registry.update(
        model_id,
        name=body.name,
        model_type=body.model_type,
        description=body.description,
        parameters=body.parameters,
    )
    if made is None:
        raise not_found(model_id)
    message = f"Model '{model_id}' updated successfully"
    return json_response(ChangedAnswer((await shown(call, [made]))[0], message))


async def remove_model(call: Call) -> Response:
    """Remove a model from the registry; it stays stored, and loaded if it is."""
    model_id = call.path["model_id"]
    if not await call.core.registry.remove(model_id):
        raise not_found(model_id)
    left = await call.core.registry.contents()
    data = ModelsData(await shown(call, left.models), left.changed, len(left.models))
    return json_response(RemovedAnswer(f"Model '{model_id}' removed successfully", data))


async def load_model(call: Call) -> Response:
    """Load a registered model, unless it is loaded; ``force_reload`` loads it anew."""
    model_id = call.path["model_id"]
    content = await read_body(call.request, call.core.settings)
    body = decode_json(content, LoadBody) if content.strip() else LoadBody()
    found = await registered(call, model_id)
    with stored(call, found):
        if body.force_reload:
            await call.core.models.unload(model_id)
        loaded = await call.core.models.load(model_id)
    message = f"Model '{model_id}' loaded successfully"
    return json_response(LoadedAnswer(message, model_info(found), loaded.worker.info.device))


def _check_type(model_type: str) -> None:
    if task_named(model_type) is None and canonical(model_type) not in plugins("gpux.pipelines", "task"):
        raise UsageError(
            f"{model_type!r} is not a model type",
            hint=f"Types are {', '.join(MODEL_TYPES)}, and every other task of the Hub or of `gpux tasks`.",
            param="model_type",
        )
