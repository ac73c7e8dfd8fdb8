"""The OpenAPI document of the server, written from its endpoints and the types of their bodies and answers.

Source of the format: OpenAPI 3.1. Parameters, bodies and answers are JSON Schemas of :mod:`msgspec`; the shapes of
errors are read from what each API answers for errors with and without details.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any

import msgspec

from gpux import __version__
from gpux.errors import InputError
from gpux.server.api.endpoint import Api, Endpoint

_PARAMETER = re.compile(r"\{(\w+)(?::(\w+))?\}")
_TYPES = {"int": "integer", "float": "number"}
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "Authorization: Bearer KEY"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
#: Sections of a docstring that are about the code.
_SECTIONS = re.compile(r"\n+(?:Args|Returns|Raises):\n")
_ABOUT = (
    "Models of the Hugging Face Hub behind HTTP. A key is needed once the server has keys; the roles of an operation "
    "are the scope that the key needs: read, infer or manage. Every response has the header x-request-id."
)


def document(apis: Iterable[Api]) -> dict[str, Any]:
    """The document of these APIs, JSON-able."""
    apis = list(apis)
    types = [kind for api in apis for one in api.endpoints for kind in (one.body, one.answer) if kind is not None]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    found = iter(schemas)
    paths: dict[str, dict[str, Any]] = {}
    for api in apis:
        components[_error_name(api)] = _error_schema(api)
        for one in api.endpoints:
            body = next(found) if one.body is not None else None
            answer = next(found) if one.answer is not None else None
            path = _PARAMETER.sub(lambda match: f"{{{match[1]}}}", one.path)
            paths.setdefault(path, {})[one.method.lower()] = _operation(api, one, body, answer)
    return {
        "openapi": "3.1.0",
        "info": {"title": "gpux", "version": __version__, "description": _ABOUT},
        "tags": [{"name": api.name} for api in apis],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SCHEMES},
    }


def _operation(api: Api, endpoint: Endpoint, body: Any, answer: Any) -> dict[str, Any]:
    content: dict[str, Any] = {} if answer is None else {"application/json": {"schema": answer}}
    if endpoint.body is not None and "stream" in getattr(endpoint.body, "__struct_fields__", ()):
        content = {"application/json": {"schema": answer or {}}, endpoint.stream: {}}
    failed: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{_error_name(api)}"}}
    if api.error_type != "application/json":  # a schema would be one of each event, or of the whole text
        failed = {}
    done: dict[str, Any] = {"description": endpoint.summary or "Done"}
    if content:
        done["content"] = content
    operation: dict[str, Any] = {
        "operationId": f"{endpoint.method.lower()} {endpoint.path}",
        "tags": [api.name],
        "summary": endpoint.summary,
        "security": [] if endpoint.scope == "open" else [{name: [endpoint.scope]} for name in _SCHEMES],
        "responses": {"2XX": done, "default": {"description": "An error", "content": {api.error_type: failed}}},
    }
    if (about := inspect.getdoc(endpoint.handler)) is not None:
        operation["description"] = _SECTIONS.split(about)[0]
    if parameters := _parameters(endpoint):
        operation["parameters"] = parameters
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return operation


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name, kind in _PARAMETER.findall(endpoint.path):
        schema: dict[str, Any] = {"type": _TYPES.get(kind, "string")}
        if schema["type"] == "string":
            schema["minLength"] = 1
        found.append({"name": name, "in": "path", "required": True, "schema": schema})
    for name, about in (endpoint.query or {}).items():
        found.append({"name": name, "in": "query", "description": about, "schema": {"type": "string"}})
    return found


def _error_name(api: Api) -> str:
    return f"{api.name.capitalize()}Error"


def _error_schema(api: Api) -> dict[str, Any]:
    """The shape of an API's errors, by what it answers for an error with all details and for one without any."""
    full = InputError("message", hint="hint", param="param", model="model", field="field")
    samples = (full, InputError("message"), InputError("message", param=None))
    shapes = [_shape(msgspec.to_builtins(api.error_body(one, 400))) for one in samples]
    return reduce(_merged, shapes)


def _shape(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        fields = {str(name): _shape(one) for name, one in value.items()}
        return {"type": "object", "properties": fields, "required": sorted(fields)}
    for kind, name in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array")):
        if isinstance(value, kind):
            return {"type": name}
    return {"type": "null"}


def _names(kind: str | list[str]) -> list[str]:
    return [kind] if isinstance(kind, str) else kind


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """A shape that both values have."""
    if one["type"] != "object" or other["type"] != "object":
        names = sorted({*_names(one["type"]), *_names(other["type"])})
        return {"type": names[0] if len(names) == 1 else names}
    mine, theirs = one["properties"], other["properties"]
    fields = {
        name: _merged(mine[name], theirs[name]) if name in mine and name in theirs else mine.get(name, theirs.get(name))
        for name in {**mine, **theirs}
    }
    required = sorted(set(one["required"]) & set(other["required"]))
    return {"type": "object", "properties": fields, "required": required}
