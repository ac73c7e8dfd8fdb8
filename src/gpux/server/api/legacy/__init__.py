"""The legacy REST API below ``/api/huggingface``, in the shapes of the "HuggingFace API Integration Documentation".

What that document leaves open, and where gpux differs, is in ``docs/reference/http/legacy.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpux.errors import BusyError, ConversionError, GpuxError, OutOfMemoryError, StorageError
from gpux.server.api.endpoint import Api, Endpoint
from gpux.server.api.legacy.cache import CacheAnswer, MessageAnswer, clear_cache, get_cache
from gpux.server.api.legacy.facts import (
    DependenciesAnswer,
    StatisticsAnswer,
    TypesAnswer,
    dependencies,
    model_types,
    statistics,
)
from gpux.server.api.legacy.inference import GenerateAnswer, GenerateBody, PipelineAnswer, generate, pipeline
from gpux.server.api.legacy.models import (
    ChangedAnswer,
    ChangedModel,
    LoadedAnswer,
    ModelAnswer,
    ModelsAnswer,
    NewModel,
    RemovedAnswer,
    add_model,
    change_model,
    get_model,
    list_models,
    load_model,
    remove_model,
)

BASE = "/api/huggingface"
_MODEL = f"{BASE}/models/{{model_id:path}}"  # an id may contain slashes, encoded or not


def error_body(error: GpuxError, status: int) -> Mapping[str, Any]:
    """``{"success": false, "error": "…", "code": "…"}``; ``error`` is the message, then what to do next."""
    text = error.message if error.hint is None else f"{error.message}. {error.hint}"
    return {"success": False, "error": text, "code": error.code}


def status_of(error: GpuxError) -> int:
    """The documented 400, 404 and 500; 503 where the same request may succeed later, and HTTP's own of the server."""
    if isinstance(error, BusyError):
        return 503
    if isinstance(error, StorageError) and "retry_after" in error.details:
        return 503  # the registry is locked
    if isinstance(error, ConversionError) and not isinstance(error, OutOfMemoryError):
        return 400
    return error.http_status


API = Api(
    "legacy",
    BASE,
    (
        Endpoint(
            "GET",
            f"{BASE}/models",
            list_models,
            "read",
            answer=ModelsAnswer,
            query={"type": "the type of the models"},
            summary="List registered models",
        ),
        Endpoint("POST", f"{BASE}/models", add_model, "manage", NewModel, ChangedAnswer, summary="Register a model"),
        Endpoint("POST", f"{_MODEL}/load", load_model, "manage", answer=LoadedAnswer, summary="Load a model"),
        Endpoint("GET", _MODEL, get_model, "read", answer=ModelAnswer, summary="A registered model"),
        Endpoint("PUT", _MODEL, change_model, "manage", ChangedModel, ChangedAnswer, summary="Change a model"),
        Endpoint("DELETE", _MODEL, remove_model, "manage", answer=RemovedAnswer, summary="Unregister a model"),
        Endpoint(
            "POST", f"{BASE}/generate", generate, "infer", GenerateBody, GenerateAnswer, summary="Continue a prompt"
        ),
        Endpoint(
            "POST", f"{BASE}/pipeline", pipeline, "infer", dict[str, Any], PipelineAnswer, summary="Run a pipeline"
        ),
        Endpoint("GET", f"{BASE}/cache", get_cache, "read", answer=CacheAnswer, summary="List loaded models"),
        Endpoint(
            "DELETE",
            f"{BASE}/cache",
            clear_cache,
            "manage",
            answer=MessageAnswer,
            query={"model_id": "the one model to unload"},
            summary="Unload models",
        ),
        Endpoint(
            "GET",
            f"{BASE}/statistics",
            statistics,
            "read",
            answer=StatisticsAnswer,
            summary="Counts of uses",
        ),
        Endpoint("GET", f"{BASE}/model-types", model_types, "read", answer=TypesAnswer, summary="Types of models"),
        Endpoint(
            "GET",
            f"{BASE}/dependencies",
            dependencies,
            "read",
            answer=DependenciesAnswer,
            summary="What is installed",
        ),
    ),
    error_body,
    status_of,
)
