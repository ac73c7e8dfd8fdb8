"""The OpenAPI document has every endpoint, and its parts exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from gpux.server.api import native
from gpux.server.app import APIS
from gpux.server.openapi import document
from tests.server.running import Running

DOCUMENT = document(APIS)


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_every_endpoint_is_an_operation_with_the_scope_that_it_needs() -> None:
    found = {(method, path): operation for method, path, operation in operations()}
    endpoints = [endpoint for api in APIS for endpoint in api.endpoints]
    assert len(found) == len(endpoints)
    for endpoint in endpoints:
        operation = found[endpoint.method, re.sub(r":\w+}", "}", endpoint.path)]
        scopes = [scope for scheme in operation["security"] for scopes in scheme.values() for scope in scopes]
        assert set(scopes) == ({endpoint.scope} - {"open"})


def test_every_answer_of_the_native_api_has_a_type() -> None:
    """Which each answer of the tests has; see :func:`tests.server.running.documented`."""
    streams = {"/gpux/v1/events", "/gpux/v1/jobs/{id}/events"}
    assert {one.path for one in native.API.endpoints if one.answer is None} == streams


def test_every_reference_of_the_document_is_in_it() -> None:
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(DOCUMENT)))
    assert named
    assert named <= set(DOCUMENT["components"]["schemas"])


def test_every_parameter_of_a_path_is_described() -> None:
    for _, path, operation in operations():
        described = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path"}
        assert described == set(re.findall(r"{(\w+)}", path))


def test_the_server_answers_with_the_document(server: Running) -> None:
    assert server.get("/openapi.json").json() == json.loads(json.dumps(DOCUMENT))


def test_an_integer_beyond_64_bits_in_a_body_is_refused(server: Running) -> None:
    body = {"model": "tests/writer", "messages": [{"role": "user", "content": "a", "weight": 2**80}]}
    assert server.post("/v1/chat/completions", body).status_code == 400
