"""``/``: that a server answers here, and which."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from gpux import __version__
from gpux.server.api.endpoint import Call
from gpux.server.http import json_response


class Root(msgspec.Struct):
    """What answers."""

    name: str
    version: str
    success: bool = True  #: clients of the legacy API check the status of a server here


async def root(call: Call) -> Response:
    """Name and version."""
    return json_response(Root("gpux", __version__))
