"""Objects that several answers of the legacy API have, and how requests are checked against them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta

from gpux.errors import ModelNotFoundError, NotStoredError, UsageError
from gpux.server.api.endpoint import Call
from gpux.server.models import ModelState
from gpux.server.registry import Registered
from gpux.server.security.redaction import public

#: Phase of a model -> the status of a registered model; of others it is ``available``.
_STATUS = {"waiting": "loading", "loading": "loading", "loaded": "loaded", "failed": "error", "down": "error"}
#: Values of the documented parameters of generation.
MaxNewTokens = Annotated[int, Meta(ge=1, le=1 << 31)]
Temperature = Annotated[float, Meta(ge=0, le=1e6)]
TopP = Annotated[float, Meta(gt=0, le=1)]
TopK = Annotated[int, Meta(ge=0, le=1 << 31)]
RepetitionPenalty = Annotated[float, Meta(gt=0, le=1e6)]


class Parameters(msgspec.Struct):
    """The parameters of generation that the API documents; an object of parameters may have others."""

    max_new_tokens: MaxNewTokens | None = None
    temperature: Temperature | None = None
    do_sample: bool | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    repetition_penalty: RepetitionPenalty | None = None


class Model(msgspec.Struct):
    """A registered model; times are in UTC, with microseconds and without a zone."""

    model_id: str
    name: str
    model_type: str
    description: str
    parameters: dict[str, Any]
    added_date: str
    last_used: str | None
    usage_count: int
    status: str  #: ``available``, ``loading``, ``loaded`` or ``error``


class ModelInfo(msgspec.Struct):
    """What identifies the model that answered."""

    model_id: str
    name: str
    model_type: str


def model_info(model: Registered) -> ModelInfo:
    """The identity of a registered model."""
    return ModelInfo(model.model_id, model.name, model.model_type)


async def registered(call: Call, model_id: str) -> Registered:
    """The registered model of an id.

    Raises:
        NotStoredError: it is not registered.
    """
    found = await call.core.registry.get(model_id)
    if found is None:
        raise not_found(model_id)
    return found


def not_found(model_id: str) -> NotStoredError:
    """The documented error for an id that is not registered."""
    return NotStoredError(f"Model '{model_id}' not found", model=model_id)


@contextmanager
def stored(call: Call, model: Registered) -> Iterator[None]:
    """Say what is missing where a registered model is not stored: 404 would say that it has to be registered.

    Raises:
        UsageError: with the command that stores it, or why the pull failed.
    """
    try:
        yield
    except ModelNotFoundError as error:
        what = (
            f"and cannot be pulled: {public(error).message}" if call.core.settings.allow_pull else "but not stored here"
        )
        raise UsageError(f"Model '{model.model_id}' is registered, {what}", hint=error.hint) from error


def require(body: Any, *fields: str) -> None:
    """Refuse a body that lacks a field; the first in this order is named.

    Raises:
        UsageError: ``Missing required field: model_id``.
    """
    for field in fields:
        value = getattr(body, field)
        if value is UNSET:
            raise UsageError(f"Missing required field: {field}", param=field)
        if value == "" and field not in ("prompt", "inputs"):
            raise UsageError(f"{field} is empty", hint="Send a text.", param=field)


def check_parameters(parameters: Mapping[str, Any] | None) -> None:
    """Refuse values that the documented parameters cannot have; others are kept as they are.

    Raises:
        UsageError: a value is invalid.
    """
    try:
        msgspec.convert(parameters or {}, Parameters)
    except msgspec.ValidationError as error:
        raise UsageError(f"invalid parameters: {error}", param="parameters") from error


async def shown(call: Call, models: Iterable[Registered]) -> list[Model]:
    """Registered models as answers show them."""
    found = list(models)
    states = await states_of(call, (one.model_id for one in found))
    return [
        Model(
            one.model_id,
            one.name,
            one.model_type,
            one.description,
            dict(one.parameters),
            one.added_date,
            one.last_used,
            one.usage_count,
            _STATUS.get(states[one.model_id].phase, "available") if one.model_id in states else "available",
        )
        for one in found
    ]


async def states_of(call: Call, model_ids: Iterable[str]) -> dict[str, ModelState]:
    """What the models of these ids are doing; without those that are neither loaded nor in the course of it."""
    models = call.core.models
    states = {str(one.model.path): one for one in models.states() if one.model is not None}
    ids = list(model_ids) if states else []

    def find() -> dict[str, ModelState]:
        stored = ((model_id, models.get(model_id)) for model_id in ids)
        paths = {model_id: str(model.path) for model_id, model in stored if model is not None}
        return {model_id: states[path] for model_id, path in paths.items() if path in states}

    return await asyncio.to_thread(find) if ids else {}
