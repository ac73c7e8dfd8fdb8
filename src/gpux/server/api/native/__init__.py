"""gpux's own API below ``/gpux/v1``: what scripts, ``gpux ps`` and a page need to manage models and the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpux.errors import GpuxError
from gpux.server.api.endpoint import Api, Endpoint
from gpux.server.api.native import answers, jobs, models, server

#: Details of an error that clients get.
_DETAILS = ("param", "model", "retry_after", "needed", "available", "free", "tokens", "limit", "near", "job", "scope")


def error_body(error: GpuxError, status: int) -> Mapping[str, Any]:
    """``{"error": {"code", "message", "hint"}}``, and those details that programs need."""
    details = {name: error.details[name] for name in _DETAILS if error.details.get(name) is not None}
    return {"error": {"code": error.code, "message": error.message, "hint": error.hint, **details}}


_FIT = {
    "model": "Reference of the Hub: org/name",
    "precision": "Only this one; by default all",
    "context": "Tokens",
    "batch": "Rows",
}
_SEARCH = {
    "query": "Words",
    "task": "The Hub's name of a task",
    "author": "User or organization",
    "license": "License",
    "runnable": "true: only models that gpux can run or convert",
    "limit": "Number of results, at most 100",
}

API = Api(
    "gpux",
    "/gpux/v1",
    (
        Endpoint(
            "GET",
            "/gpux/v1/server",
            server.get_server,
            "read",
            answer=answers.Server,
            summary="Version, settings and memory",
        ),
        Endpoint("GET", "/gpux/v1/events", server.events, "read", summary="What happens, as server-sent events"),
        Endpoint("GET", "/gpux/v1/disk", server.disk, "read", answer=answers.Disk, summary="Disk usage"),
        Endpoint(
            "POST",
            "/gpux/v1/doctor",
            server.doctor,
            "manage",
            answer=answers.Doctor,
            summary="Devices and tools of the machine",
        ),
        Endpoint(
            "POST", "/gpux/v1/shutdown", server.shutdown, "manage", answer=answers.Stopping, summary="End the server"
        ),
        Endpoint(
            "GET", "/gpux/v1/models", models.list_models, "read", answer=answers.StoredModels, summary="Stored models"
        ),
        Endpoint(
            "GET",
            "/gpux/v1/models/{name:path}",
            models.get_model,
            "read",
            answer=answers.OneModel,
            summary="One stored model",
        ),
        Endpoint(
            "DELETE",
            "/gpux/v1/models/{name:path}",
            models.remove_model,
            "manage",
            answer=answers.RemovedModel,
            summary="Remove a model",
        ),
        Endpoint(
            "GET", "/gpux/v1/loaded", models.list_loaded, "read", answer=answers.LoadedModels, summary="Loaded models"
        ),
        Endpoint(
            "POST",
            "/gpux/v1/load",
            models.load,
            "manage",
            models.LoadRequest,
            answer=answers.LoadedModel,
            summary="Load a model",
        ),
        Endpoint(
            "POST",
            "/gpux/v1/unload",
            models.unload,
            "manage",
            models.UnloadRequest,
            answer=answers.Unloaded,
            summary="Unload models",
        ),
        Endpoint(
            "POST",
            "/gpux/v1/pin",
            models.pin,
            "manage",
            models.NamedRequest,
            answer=answers.LoadedModel,
            summary="Keep a model loaded",
        ),
        Endpoint(
            "POST",
            "/gpux/v1/unpin",
            models.unpin,
            "manage",
            models.NamedRequest,
            answer=answers.LoadedModel,
            summary="End a pin",
        ),
        Endpoint(
            "POST",
            "/gpux/v1/default",
            models.choose_default,
            "manage",
            models.DefaultRequest,
            answer=answers.Default,
            summary="Choose the precision that a name without one stands for",
        ),
        Endpoint(
            "GET",
            "/gpux/v1/fit",
            models.fit,
            "read",
            answer=answers.Fit,
            query=_FIT,
            summary="Whether a model fits this machine",
        ),
        Endpoint(
            "GET",
            "/gpux/v1/search",
            models.search,
            "read",
            answer=answers.Found,
            query=_SEARCH,
            summary="Search the Hub",
        ),
        Endpoint(
            "POST",
            "/gpux/v1/pull",
            jobs.pull,
            "manage",
            jobs.PullRequest,
            answer=answers.StartedJob,
            summary="Pull a model",
        ),
        Endpoint(
            "POST",
            "/gpux/v1/verify",
            jobs.verify,
            "manage",
            jobs.VerifyRequest,
            answer=answers.StartedJob,
            summary="Check stored files",
        ),
        Endpoint("GET", "/gpux/v1/jobs", jobs.list_jobs, "read", answer=answers.Jobs, summary="Jobs"),
        Endpoint("GET", "/gpux/v1/jobs/{id}", jobs.get_job, "read", answer=answers.OneJob, summary="One job"),
        Endpoint("GET", "/gpux/v1/jobs/{id}/events", jobs.job_events, "read", summary="A job's server-sent events"),
        Endpoint(
            "POST", "/gpux/v1/jobs/{id}/cancel", jobs.cancel_job, "manage", answer=answers.Job, summary="Cancel a job"
        ),
        Endpoint(
            "DELETE",
            "/gpux/v1/jobs/{id}",
            jobs.remove_job,
            "manage",
            answer=answers.RemovedJob,
            summary="Remove an ended job",
        ),
    ),
    error_body,
)
