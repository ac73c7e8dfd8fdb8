"""``/gpux/v1/session``: a browser logs in with a key that is typed once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from http.cookies import SimpleCookie
from typing import Any

import msgspec
from starlette.responses import Response

from gpux.errors import GpuxError
from gpux.server.api.endpoint import Api, Call, Endpoint
from gpux.server.http import json_response
from gpux.server.security.sessions import cookie_name

PATH = "/gpux/v1/session"


class Login(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a login."""

    key: str


class SessionState(msgspec.Struct):
    """What the browser may do."""

    needs_key: bool  #: whether requests to this server need a key or a session
    scopes: tuple[str, ...]
    expires: int | None = None  #: seconds since the epoch


async def state(call: Call) -> Response:
    """Whether a key is needed, and what the session of the request allows."""
    access = call.core.access
    if not access.needs_key:
        return json_response(SessionState(False, access.scopes(call.request)))
    found = access.session(call.request)
    if found is None:
        return json_response(SessionState(True, ()))
    try:
        return json_response(SessionState(True, access.scopes(call.request), int(found.expires)))
    except GpuxError:  # the key was revoked after the login
        return json_response(SessionState(True, ()))


async def log_in(call: Call) -> Response:
    """Start a session for a key; the cookie stands for it."""
    access = call.core.access
    if not access.needs_key:
        return json_response(SessionState(False, access.scopes(call.request)))
    key = access.find(call.body.key, call.request)
    token, session = access.sessions.start(key.id, key.expires)
    response = json_response(SessionState(True, key.scopes, int(session.expires)))
    response.headers["set-cookie"] = _cookie(call, token, max(1, int(session.expires - time.time())))
    return response


async def log_out(call: Call) -> Response:
    """End the session."""
    token = call.request.cookies.get(cookie_name(call.request.scope))
    if token:
        call.core.access.sessions.end(token)
    response = Response(status_code=204)
    response.headers["set-cookie"] = _cookie(call, "", 0)
    return response


def _cookie(call: Call, token: str, seconds: int) -> str:
    """Not readable by scripts, and not sent with requests of other sites."""
    name = cookie_name(call.request.scope)
    cookie = SimpleCookie({name: token})
    for attribute, value in (("path", "/"), ("httponly", True), ("samesite", "Strict"), ("max-age", seconds)):
        cookie[name][attribute] = value
    if call.request.scope["scheme"] == "https":
        cookie[name]["secure"] = True
    return cookie.output(header="").strip()


def error_body(error: GpuxError, status: int) -> Mapping[str, Any]:
    """``{"error": {"code", "message", "hint", …}}``, as ``--json`` of the command line."""
    return {"error": error.to_dict()}


API = Api(
    "session",
    PATH,
    (
        Endpoint("GET", PATH, state, "open", answer=SessionState, summary="Whether a key is needed"),
        Endpoint("POST", PATH, log_in, "open", Login, SessionState, summary="Log a browser in"),
        Endpoint("DELETE", PATH, log_out, "open", summary="Log a browser out"),
    ),
    error_body,
)
