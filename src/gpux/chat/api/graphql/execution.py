"""Executes operations by graphql-core, on the schema that Ariadne binds to the resolvers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from ariadne import make_executable_schema
from graphql import ExecutionResult, GraphQLError, GraphQLSchema, OperationType, parse, specified_rules, validate
from graphql import execute as execute_document
from graphql.utilities import get_operation_ast

from gpux.chat.api.graphql import error_entry
from gpux.chat.api.graphql.limits import MOST_CHARACTERS, MOST_COMMENTS, MOST_TOKENS, Limits
from gpux.chat.api.graphql.resolvers import BINDINGS, Context
from gpux.errors import GpuxError, RunError, UsageError
from gpux.server.security.redaction import public

__all__ = ["Context", "execute", "schema", "schema_text"]

log = logging.getLogger(__name__)
#: Errors of an operation that are reported.
MOST_ERRORS = 20


def schema_text() -> str:
    """The schema in GraphQL's own language."""
    return files("gpux.chat.api.graphql").joinpath("schema.graphql").read_text(encoding="utf-8")


@cache
def schema() -> GraphQLSchema:
    """The schema with its resolvers."""
    return make_executable_schema(schema_text(), *BINDINGS, convert_names_case=True)


async def execute(
    context: Context, query: str, operation_name: str | None, variables: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The answer to an operation: ``data``, ``errors``, or both.

    Args:
        context: of the request.
        query: the text of the operation.
        operation_name: which of several operations.
        variables: of the operation.
    """
    try:
        document = parse(
            query,
            max_lexical_tokens=MOST_TOKENS,
            max_comments=MOST_COMMENTS,
            max_source_length=MOST_CHARACTERS,
        )
    except GraphQLError as error:
        return {"errors": [_entry(error)]}
    # The limits come first: what other rules compare grows with the square of the fields.
    errors = validate(schema(), document, [Limits], max_errors=MOST_ERRORS)
    errors = errors or validate(schema(), document, specified_rules, max_errors=MOST_ERRORS)
    if errors:
        return {"errors": [_entry(one) for one in errors]}
    operation = get_operation_ast(document, operation_name)
    if operation is not None and operation.operation is OperationType.SUBSCRIPTION:
        return {"errors": [_entry(GraphQLError("there are no subscriptions", operation))]}
    result = execute_document(
        schema(),
        document,
        context_value=context,
        variable_values=None if variables is None else dict(variables),
        operation_name=operation_name,
        max_coercion_errors=MOST_ERRORS,
    )
    found = result if isinstance(result, ExecutionResult) else await result
    answer: dict[str, Any] = {}
    if found.data is not None or not found.errors or any(one.path for one in found.errors):
        answer["data"] = found.data
    if found.errors:
        answer["errors"] = [_entry(one) for one in found.errors]
    return answer


def _entry(error: GraphQLError) -> dict[str, Any]:
    """An error with its place in the operation, and gpux's codes in ``extensions``."""
    found = error_entry(_typed(error))
    formatted: Mapping[str, Any] = error.formatted
    place = {name: formatted[name] for name in ("locations", "path") if name in formatted}
    return {"message": found["message"], **place, "extensions": found["extensions"]}


def _typed(error: GraphQLError) -> GpuxError:
    original: BaseException | None = error.original_error
    while isinstance(original, GraphQLError):
        original = original.original_error
    if isinstance(original, GpuxError):
        return public(original)
    if original is None:  # of the operation itself
        return public(UsageError(error.message))
    log.error("an operation of GraphQL failed", exc_info=original)
    return RunError("the server failed to answer", hint="Its log has the reason.")
