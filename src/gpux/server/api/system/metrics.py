"""``/metrics``."""

from __future__ import annotations

from starlette.responses import Response

from gpux.server.api.endpoint import Call
from gpux.server.metrics import Metrics


async def get_metrics(call: Call) -> Response:
    """The text that Prometheus collects."""
    metrics: Metrics = call.request.app.state.metrics
    body, media_type = metrics.render(call.request.headers.get("accept", ""))
    return Response(body, headers={"content-type": media_type})
