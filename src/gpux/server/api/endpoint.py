"""Routes of the server: which request an endpoint takes, who may call it, and how its errors are shaped.

Access is checked where a route is made, so that no route can be without it: an endpoint names the scope that it
needs, and :data:`Scope` ``open`` has to be written out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from gpux.errors import GpuxError, MethodError, OverloadedError, PathNotFoundError, RunError, SlowClientError
from gpux.server.core import Core
from gpux.server.http import read_json
from gpux.server.security.redaction import public

log = logging.getLogger(__name__)
T = TypeVar("T")

#: What a key allows: ``read`` lists and describes, ``infer`` runs models, ``manage`` loads, pulls and removes them.
#: ``open`` needs no key.
Scope = Literal["open", "read", "infer", "manage"]
#: Status in logs of a request whose client left before the answer; it is not sent.
CLIENT_LEFT = 499
#: (error, its HTTP status) -> the body of the response
ErrorBody = Callable[[GpuxError, int], Mapping[str, Any]]


@dataclass(frozen=True)
class Call:
    """One request to an endpoint."""

    request: Request
    core: Core
    body: Any = None  #: the decoded body, of the endpoint's type

    @property
    def path(self) -> Mapping[str, str]:
        """Parameters of the path."""
        return self.request.path_params

    @property
    def query(self) -> Mapping[str, str]:
        """Parameters of the query."""
        return self.request.query_params


@dataclass(frozen=True)
class Endpoint:
    """One operation of an API."""

    method: Literal["GET", "HEAD", "POST", "PUT", "DELETE"]
    path: str  #: with parameters in braces: ``/v1/models/{id:path}``
    handler: Callable[[Call], Awaitable[Response]]
    scope: Scope
    body: type[Any] | None = None  #: a msgspec.Struct; None: no body, or one that the handler reads itself
    answer: type[Any] | None = None  #: of the OpenAPI document
    query: Mapping[str, str] | None = None  #: parameter of the query -> description
    summary: str = ""
    stream: str = "text/event-stream"  #: media type of the answer to a body with ``stream: true``

    def __post_init__(self) -> None:
        # A page of another site can make a browser send GET requests.
        if self.method in ("GET", "HEAD") and self.scope not in ("open", "read"):
            raise ValueError(f"{self.method} {self.path} changes nothing, so that its scope is open or read")


@dataclass(frozen=True)
class Api:
    """Endpoints of one protocol."""

    name: str
    prefix: str  #: paths that begin with it and match no endpoint are 404 in this API's shape
    endpoints: tuple[Endpoint, ...]
    shape: ErrorBody  #: of its errors; :meth:`error_body` is what callers use
    #: status of an error in this API, where it differs from the error's own
    statuses: Callable[[GpuxError], int] = lambda error: error.http_status
    #: further headers of the response for an error
    headers: Callable[[GpuxError], Mapping[str, str]] = lambda error: {}
    more_prefixes: tuple[str, ...] = ()  #: see ``prefix``
    error_type: str = "application/json"  #: media type of errors
    encode: Callable[[Mapping[str, Any]], bytes] = msgspec.json.encode  #: an error's body as ``error_type``

    def match(self, path: str) -> int:
        """The length of the longest prefix that a path has; 0: it has none."""
        return max((len(one) for one in (self.prefix, *self.more_prefixes) if path.startswith(one)), default=0)

    def error_body(self, error: GpuxError, status: int) -> Mapping[str, Any]:
        """What a client gets of an error, in this API's shape; see :func:`gpux.server.security.redaction.public`."""
        return self.shape(public(error), status)

    def respond(self, error: GpuxError) -> Response:
        """The response for an error."""
        status = self.statuses(error)
        headers = dict(self.headers(error))
        if (seconds := error.details.get("retry_after")) is not None:
            headers["retry-after"] = str(max(1, round(seconds)))
        if status == 401:
            headers["www-authenticate"] = "Bearer"
        if (methods := error.details.get("allow")) is not None:
            headers["allow"] = methods
        if isinstance(error, SlowClientError) or error.details.get("stopping"):
            headers["connection"] = "close"
        headers["content-type"] = self.error_type
        return Response(self.encode(self.error_body(error, status)), status, headers)


def routes(api: Api, core: Core) -> list[Route]:
    """Starlette's routes of an API."""
    return [
        Route(one.path, _endpoint(api, one, core), methods=[one.method], name=f"{api.name} {one.method} {one.path}")
        for one in api.endpoints
    ]


def _endpoint(api: Api, endpoint: Endpoint, core: Core) -> Callable[[Request], Awaitable[Response]]:
    async def respond(request: Request) -> Response:
        try:
            core.access.check(request, endpoint.scope)
            if endpoint.scope != "open":
                _refuse_while_stopping(core)
            body = None
            if endpoint.body is not None:
                body = await read_json(request, endpoint.body, core.settings)
            return await endpoint.handler(Call(request, core, body))
        except GpuxError as error:
            return api.respond(error)
        except ClientDisconnect:
            return Response(status_code=CLIENT_LEFT)  # nobody reads it
        except asyncio.CancelledError:
            if core.draining:  # the deadline of running requests has passed
                return api.respond(stopping())
            raise
        except Exception:
            log.exception("%s %s failed", endpoint.method, endpoint.path)
            return api.respond(RunError("the server failed to answer", hint="Its log has the reason."))

    return respond


def _refuse_while_stopping(core: Core) -> None:
    if core.draining:
        raise stopping()


def stopping() -> GpuxError:
    """The error of requests that a server does not answer as it ends."""
    return OverloadedError("the server is stopping", hint="Send the request again when it has started.", stopping=True)


def not_found(api: Api, path: str) -> Response:
    """The response for a path that is not of the API."""
    error = PathNotFoundError(f"no such path: {path}", hint="The documentation lists the paths of each API.")
    return api.respond(error)


def method_not_allowed(api: Api, method: str, allow: str) -> Response:
    """The response for a method that a path does not have.

    Args:
        api: of the path.
        method: of the request.
        allow: those that the path has, separated by commas.
    """
    return api.respond(MethodError(f"this path has no method {method}", hint=f"Use {allow}.", allow=allow))
