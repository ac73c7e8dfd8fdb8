"""What monitors ask: health, metrics and the OpenAPI document. Nothing here loads a model or counts as its use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpux.errors import GpuxError
from gpux.server.api.endpoint import Api, Endpoint
from gpux.server.api.system.health import Health, Readiness, get_health, live, ready
from gpux.server.api.system.metrics import get_metrics
from gpux.server.api.system.openapi import get_openapi
from gpux.server.api.system.root import Root, root


def error_body(error: GpuxError, status: int) -> Mapping[str, Any]:
    """``{"error": {"code", "message", "hint"}}``."""
    return {"error": {"code": error.code, "message": error.message, "hint": error.hint}}


API = Api(
    "system",
    "/",
    (
        Endpoint("GET", "/", root, "open", answer=Root, summary="Name and version of the server"),
        Endpoint("GET", "/health", get_health, "open", answer=Health, summary="State of the server"),
        *(
            Endpoint("GET", path, live, "open", summary="The server runs")
            for path in ("/healthz", "/livez", "/live", "/ping")
        ),
        *(
            Endpoint("GET", path, ready, "open", answer=Readiness, summary="The models of the start are loaded")
            for path in ("/readyz", "/ready")
        ),
        Endpoint("GET", "/metrics", get_metrics, "read", summary="Metrics in the format of Prometheus"),
        Endpoint("GET", "/openapi.json", get_openapi, "read", summary="The OpenAPI document"),
    ),
    error_body,
)
