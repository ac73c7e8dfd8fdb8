"""Stored and loaded models: list, describe, load, unload, pin, choose, remove, fit, search."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.responses import Response

from gpux.errors import UsageError
from gpux.model.reference import ModelRef
from gpux.model.units import parse_duration
from gpux.server.api.endpoint import Call
from gpux.server.api.native.documents import model_document, proof_document, state_document
from gpux.server.http import json_response, until_disconnected
from gpux.server.models import Models
from gpux.server.pulls import check_ref
from gpux.store import Store

Name = Annotated[str, Meta(min_length=1, max_length=300)]


class LoadRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``load``."""

    model: Name
    pin: bool = False
    keep_alive: float | str | None = None  #: seconds, or ``5m``; negative: never; null: as the server's setting


class UnloadRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``unload``: a model, or all of them."""

    model: Name | None = None
    all: bool = False
    force: bool = False  #: end running requests with an error


class NamedRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``pin`` and ``unpin``."""

    model: Name


class DefaultRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``default``: ``org/name:int8`` chooses int8, ``org/name`` with ``clear`` ends the choice."""

    model: Name
    clear: bool = False


async def list_models(call: Call) -> Response:
    """Every stored model, and what it is doing."""
    models, store = call.core.models, _store(call)
    listing, doing = models.listing(), _doing(models)
    found = await asyncio.to_thread(
        lambda: [
            model_document(
                one.model,
                store,
                name=one.name,
                state=doing.get(one.model.path, "stored"),
                default=one.default,
                revision=one.revision,
            )
            for one in listing
        ]
    )
    return json_response({"models": found})


async def get_model(call: Call) -> Response:
    """One stored model: manifest, proof, and the other precisions of it."""
    models, store = call.core.models, _store(call)
    model = models.find(call.path["name"])
    listing = models.listing()
    listed = next((one for one in listing if one.model.path == model.path), None)
    default, revision = (listed.default, listed.revision) if listed is not None else (False, None)
    state = models.state(call.path["name"])
    manifest = model.manifest
    document = {
        **model_document(model, store, name=state.name, state=state.phase, default=default, revision=revision),
        "proof": proof_document(model),
        "recipe": str(manifest.recipe),
        "versions": dict(manifest.versions),
        "model_type": manifest.model_type,
        "license": manifest.license,
        "graphs": [graph.name for graph in manifest.graphs],
        "files": len(manifest.files),
        "max_length": manifest.call_spec.max_length,
        "others": [one.name for one in listing if one.id == model.id and one.model.path != model.path],
    }
    return json_response(document)


async def remove_model(call: Call) -> Response:
    """Remove the stored variant that a name stands for, after its requests; source files are kept."""
    model = call.core.models.find(call.path["name"])
    await call.core.models.unload(call.path["name"])
    store = _store(call)
    freed = await asyncio.to_thread(lambda: store.removal_plan([model]).execute())
    call.core.models.store_changed()
    return json_response({"removed": call.path["name"], "freed": freed})


async def list_loaded(call: Call) -> Response:
    """Every model that is loaded, loads, or has failed to."""
    return json_response({"models": [state_document(state) for state in call.core.models.states()]})


async def load(call: Call) -> Response:
    """Load a model now; the answer comes when it is loaded."""
    body: LoadRequest = call.body
    models = call.core.models
    await until_disconnected(call.request, models.load(body.model, keep_alive=_seconds(body), pin=body.pin))
    return json_response(state_document(models.state(body.model)))


async def unload(call: Call) -> Response:
    """Unload a model, or all, after their running requests."""
    body: UnloadRequest = call.body
    if (body.model is None) is not body.all:
        raise UsageError("send either a model or all", hint='{"model": "org/name"} or {"all": true}', param="model")
    models = call.core.models
    if body.model is None:
        return json_response({"unloaded": await models.unload_all(force=body.force)})
    was = await models.unload(body.model, force=body.force)
    return json_response({"unloaded": [body.model] if was else []})


async def pin(call: Call) -> Response:
    """Load a model and keep it loaded, also after a restart of the server."""
    body: NamedRequest = call.body
    await until_disconnected(call.request, call.core.models.pin(body.model))
    return json_response(state_document(call.core.models.state(body.model)))


async def unpin(call: Call) -> Response:
    """Let a model be unloaded again."""
    body: NamedRequest = call.body
    await call.core.models.unpin(body.model)
    return json_response(state_document(call.core.models.state(body.model)))


async def choose_default(call: Call) -> Response:
    """Choose the precision that a name without one stands for."""
    body: DefaultRequest = call.body
    model = call.core.models.find(body.model)
    written = ModelRef.parse(body.model)
    if not body.clear and written.precision is None:
        raise UsageError(f"{body.model!r} names no precision", hint="Name one: org/name:int8", param="model")
    ref = ModelRef(model.manifest.scheme, model.id)
    await asyncio.to_thread(_store(call).choose_precision, ref, None if body.clear else model.manifest.precision)
    call.core.models.store_changed()
    found = call.core.models.find(str(replace(written, precision=None)))
    return json_response({"model": str(replace(written, precision=None)), "precision": found.manifest.precision})


async def fit(call: Call) -> Response:
    """Whether a model fits this machine, by precision and device; the model need not be stored."""
    name = _wanted(call, "model")
    options = ["info", "--fit"]
    for option in ("context", "batch"):
        if (value := call.query.get(option)) is not None:
            if not value.isdecimal() or len(value) > 9 or int(value) < 1:
                raise UsageError(f"{option} is not a positive number", param=option)
            options += [f"--{option}", value]
    if (precision := call.query.get("precision")) is not None:
        options.append(f"--precision={precision}")
    document = await until_disconnected(call.request, call.core.commands.run(options, [str(check_ref(name))]))
    return json_response({"model": name, "fit": document["fit"]})


async def search(call: Call) -> Response:
    """Search the Hub."""
    options = ["search", f"--limit={_number(call, 'limit', 20, 100)}"]
    options += [f"--{name}={call.query[name]}" for name in ("task", "author", "license") if name in call.query]
    options += ["--runnable"] if call.query.get("runnable") == "true" else []
    found = await until_disconnected(call.request, call.core.commands.run(options, [_wanted(call, "query")]))
    return json_response({"models": found})


def _store(call: Call) -> Store:
    return Store(call.core.settings.gpux.store)


def _doing(models: Models) -> dict[Any, str]:
    return {state.model.path: state.phase for state in models.states() if state.model is not None}


def _seconds(body: LoadRequest) -> float | None:
    value = body.keep_alive
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except ValueError as exc:
            raise UsageError(str(exc), param="keep_alive") from exc
    return math.inf if value is not None and value < 0 else value


def _wanted(call: Call, name: str) -> str:
    value = call.query.get(name, "")
    if not 1 <= len(value) <= 300:
        raise UsageError(f"the parameter {name} is missing or too long", hint=f"Add ?{name}=…", param=name)
    return value


def _number(call: Call, name: str, default: int, most: int) -> int:
    value = call.query.get(name, str(default))
    if not value.isdecimal() or len(value) > 9 or not 1 <= int(value) <= most:
        raise UsageError(f"{name} is not a number between 1 and {most}", param=name)
    return int(value)
