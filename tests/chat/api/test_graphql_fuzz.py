"""Operations that hypothesis writes from the schema, and texts that are none, sent to a real server.

`./dev server_fuzz` sends more of them, by ``GPUX_FUZZ``.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from graphql import print_schema
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from hypothesis_graphql import Mode, from_schema, nodes

from gpux.chat.api.graphql.execution import schema
from tests.server.running import Running

MANY = examples(
    max_examples=int(os.environ.get("GPUX_FUZZ", "25")),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
SCALARS = {
    "Long": st.integers(-(2**60), 2**60).map(nodes.Int),
    "DateTime": st.text().map(nodes.String),
    "JSON": st.text().map(nodes.String),
}
NAMES = ["id", "echo:latest", "fuzz-1", "fuzz-2", "", "user", "\u0000", "hf:tests/writer", "ollama:nobody"]


def send(server: Running, **body: Any) -> None:
    """Send an operation; its answer has to be one of GraphQL."""
    response = server.post("/graphql", body)
    assert response.status_code == 200, response.text
    found = response.json()
    assert set(found) <= {"data", "errors"}
    assert found
    for one in found.get("errors", ()):
        assert one["extensions"]["code"] not in ("run", "gpux"), one
        assert one["extensions"]["errorCode"]


@pytest.mark.parametrize("mode", [Mode.POSITIVE, Mode.NEGATIVE], ids=["valid", "invalid"])
def test_no_operation_is_a_server_error(server: Running, mode: Mode) -> None:
    operations = from_schema(print_schema(schema()), custom_scalars=SCALARS, mode=mode)

    @MANY
    @given(operations)
    def run(query: str) -> None:
        send(server, query=query)

    run()


@MANY
@given(st.text(), st.none() | st.text(), st.none() | st.dictionaries(st.text(), st.text()))
def test_no_text_is_a_server_error(
    server: Running, query: str, name: str | None, variables: dict[str, str] | None
) -> None:
    try:
        f"{query}{name}{variables}".encode()
    except UnicodeEncodeError:
        return  # a half of a surrogate pair has no JSON
    send(server, query=query, operationName=name, variables=variables)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(NAMES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["conversationId", "text", "sender", "llmModel", "password", "options", "id", "tabName", "sessionId", "system"]


@MANY
@given(
    st.sampled_from(["addMessage", "createConversation", "updateConversation", "terminateStream", "verifyPassword"]),
    st.dictionaries(st.sampled_from(FIELDS), VALUES),
)
def test_no_input_is_a_server_error(server: Running, field: str, input: dict[str, Any]) -> None:
    kind = f"{field[0].upper()}{field[1:]}Input!"
    send(
        server,
        query=f"mutation ($input: {kind}) {{ {field}(input: $input) {{ message }} }}",
        variables={"input": input},
    )
