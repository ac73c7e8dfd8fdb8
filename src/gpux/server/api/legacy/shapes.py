"""Objects that several answers of the legacy API have, and how requests are checked against them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta

from gpux.errors import GpuxError, ModelNotFoundError, NotStoredError, UsageError
from gpux.server.api.endpoint import Call
from gpux.server.models import Loaded
from gpux.server.registry import Registered

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
def stored(model: Registered) -> Iterator[None]:
    """Name what is missing where a registered model is not stored: 404 would say that it has to be registered.

    Raises:
        UsageError: with the command that stores it.
    """
    try:
        yield
    except ModelNotFoundError as error:
        raise UsageError(f"Model '{model.model_id}' is registered, but not stored here", hint=error.hint) from error


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
    loaded = await loaded_models(call, (one.model_id for one in found))
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
            "loaded" if one.model_id in loaded else "available",
        )
        for one in found
    ]


async def loaded_models(call: Call, model_ids: Iterable[str]) -> dict[str, Loaded]:
    """Those of the ids whose models are loaded."""
    models = call.core.models
    loaded = {str(one.model.path): one for one in models.loaded()}
    ids = list(model_ids) if loaded else []

    def find() -> dict[str, Loaded]:
        found = {}
        for model_id in ids:
            try:
                path = str(models.find(model_id).path)
            except GpuxError:  # it is not stored
                continue
            if path in loaded:
                found[model_id] = loaded[path]
        return found

    return await asyncio.to_thread(find) if ids else {}
