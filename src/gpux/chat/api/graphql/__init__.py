"""``POST /graphql``: models, conversations, messages and their answers.

The schema stands in ``schema.graphql``. Imported at every start of a server, and therefore without the libraries of
GraphQL. Requests are JSON only, one operation each; queries need the scope ``read``, mutations ``infer``.
Source of the format: https://spec.graphql.org/October2021/ and https://graphql.github.io/graphql-over-http/draft/.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from gpux.chat.codes import error_code
from gpux.chat.service import chat_of, missing_library
from gpux.chat.values import Value
from gpux.errors import GpuxError
from gpux.server.api.endpoint import Api, Call, Endpoint
from gpux.server.http import until_disconnected

#: Media type of clients that read the HTTP status too; others get the status 200 with errors.
RESPONSE = "application/graphql-response+json"


class GraphQLRequest(Value, frozen=True, kw_only=True):
    """The body of a request."""

    query: str
    operation_name: str | None = None
    variables: dict[str, Any] | None = None
    extensions: dict[str, Any] | None = None  #: not used


class GraphQLAnswer(msgspec.Struct, frozen=True):
    """The body of a response; at least one of both is there."""

    data: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    errors: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET


async def graphql(call: Call) -> Response:
    """Execute an operation of GraphQL."""
    chat = await chat_of(call.core)
    try:
        from gpux.chat.api.graphql.execution import Context, execute
    except ModuleNotFoundError as error:
        raise missing_library(error) from error
    body: GraphQLRequest = call.body
    context = Context(call, chat)
    answer = await until_disconnected(call.request, execute(context, body.query, body.operation_name, body.variables))
    if RESPONSE not in call.request.headers.get("accept", ""):
        return Response(msgspec.json.encode(answer), media_type="application/json")
    return Response(msgspec.json.encode(answer), 200 if "data" in answer else 400, media_type=RESPONSE)


def error_entry(error: GpuxError) -> dict[str, Any]:
    """An entry of ``errors``.

    Args:
        error: as clients may see it, by :func:`gpux.server.security.redaction.public`.
    """
    extensions = {"code": error.code, "errorCode": error_code(error), "hint": error.hint, **error.details}
    return {
        "message": error.message,
        "extensions": {name: value for name, value in extensions.items() if value is not None},
    }


def error_body(error: GpuxError, status: int) -> Mapping[str, Any]:
    """What a client gets of an error before the operation."""
    return {"errors": [error_entry(error)]}


API = Api(
    "chat-graphql",
    "/graphql",
    (
        Endpoint(
            "POST",
            "/graphql",
            graphql,
            "read",
            GraphQLRequest,
            answer=GraphQLAnswer,
            summary="Execute an operation of GraphQL",
        ),
    ),
    error_body,
)
