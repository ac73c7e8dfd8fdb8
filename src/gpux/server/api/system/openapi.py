"""``/openapi.json``."""

from __future__ import annotations

from starlette.responses import Response

from gpux.server.api.endpoint import Call


async def get_openapi(call: Call) -> Response:
    """This document."""
    return Response(call.request.app.state.openapi(), media_type="application/json")
