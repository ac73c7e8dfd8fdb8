"""GraphQL on a real server: the operations of upstream's client, and what is refused."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
from graphql import get_introspection_query

from gpux.chat.api.graphql.execution import schema
from gpux.chat.api.graphql.limits import DEEPEST, MOST_ALIASES, MOST_FIELDS, MOST_TOKENS
from tests.chat.api.asking import ADD, CREATE, DELETE, DELETE_AFTER, MESSAGES, TERMINATE, answer, data, error
from tests.chat.conftest import Keyed
from tests.chat.service.talking import ENDLESS, Event, reload, talking
from tests.server.running import WRITER, Running
from tests.waiting import wait_until

SHORT = {"temperature": 0, "maxTokens": 4}


# Models


def test_models_of_both_providers_are_listed(server: Running) -> None:
    found = data(server, "query { availableModels { models count unavailable { provider } } }")
    assert {"echo:latest", f"hf:{WRITER}"} <= set(found["models"]), "those of the default provider have no prefix"
    assert found["count"] == len(found["models"])
    assert found["unavailable"] == []


def test_every_listed_name_can_be_used(server: Running) -> None:
    names = data(server, "{ availableModels { models } }")["models"]
    for name in names:
        found = data(server, "query ($name: String!) { model(name: $name) { info { name } details } }", name=name)
        assert found["info"]["name"] in (name, f"ollama:{name}")


def test_model_infos(server: Running) -> None:
    fields = "{ name provider displayName description capabilities { supportsVision supportsStreaming "
    fields += "maxContextLength supportedLanguages } metadata { size parameters architecture license lastUpdated } }"
    (seeing,) = data(server, f"{{ modelInfos(supportsVision: true) {fields} }}")
    assert (seeing["name"], seeing["provider"]) == ("ollama:seeing:latest", "ollama")
    assert seeing["metadata"]["size"] == 3_825_819_519, "more than 32 bits"
    (writer,) = data(server, f'{{ modelInfos(search: "WRITER fp32", provider: "huggingface") {fields} }}')
    assert writer["name"].startswith(f"hf:{WRITER}")
    found = error(server, '{ modelInfos(provider: "nobody") { name } }')
    assert (found["extensions"]["code"], found["path"]) == ("provider_not_found", ["modelInfos"])


def test_a_provider_that_is_gone_is_reported_beside_the_others(changing: Running) -> None:
    server = changing
    reload(server, '[providers.ollama]\nbase_url = "http://127.0.0.1:9"\n')
    found = data(server, "{ availableModels { models unavailable { provider error code errorCode } } }")
    (gone,) = found["unavailable"]
    assert (gone["provider"], gone["code"]) == ("ollama", "provider_unavailable")
    assert gone["errorCode"] == "HF_CONNECTION_ERROR"
    assert f"hf:{WRITER}" in found["models"]
    health = data(server, "{ providers { provider healthy status error lastChecked metrics } }")
    assert {one["provider"]: one["healthy"] for one in health} == {"ollama": False, "huggingface": True}


# Conversations


def conversation(server: Running, **input: Any) -> dict[str, Any]:
    found = data(server, CREATE, input={"tabName": "Tab", "llmModel": "echo:latest", **input})
    assert found["message"] == "Conversation created successfully"
    made: dict[str, Any] = found["conversation"]
    return made


def test_a_conversation_from_its_begin_to_its_end(server: Running) -> None:
    made = conversation(server, id="my-chat-1")
    assert made["llmModel"] == "ollama:echo:latest"
    assert made["modelProvider"] == "ollama"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", made["createdAt"])
    added = data(server, ADD, input={"conversationId": "my-chat-1", "text": "Hello, how are you?", "sender": "user"})
    assert added["message"] == "Message added successfully"
    assert (added["userMessage"]["text"], added["llmMessage"]["text"]) == ("Hello, how are you?", "Hello, how are you?")
    assert (added["llmMessage"]["sender"], added["llmMessage"]["partial"]) == ("llm", False)
    assert (added["llmModel"], added["error"], added["code"]) == ("ollama:echo:latest", None, None)
    other = {"conversationId": "my-chat-1", "text": "b", "llmModel": f"hf:{WRITER}", "options": SHORT}
    assert data(server, ADD, input=other)["llmModel"].startswith(f"hf:{WRITER}")
    found = data(server, MESSAGES, conversationId="my-chat-1")
    assert [one["sender"] for one in found] == ["user", "llm", "user", "llm"]
    query = "query ($id: String!) { conversation(id: $id) { messageCount messages(limit: 2) { text } } }"
    whole = data(server, query, id="my-chat-1")
    assert (whole["messageCount"], len(whole["messages"])) == (4, 2)
    listed = data(server, "query { conversations { count conversations { id tabName isPrivate messageCount } } }")
    assert listed["count"] == len(listed["conversations"])
    assert "my-chat-1" in [one["id"] for one in listed["conversations"]]
    deleted = data(server, DELETE_AFTER, conversationId="my-chat-1", messageId=found[1]["id"])
    assert (deleted["deletedCount"], deleted["success"]) == (2, True)
    assert data(server, DELETE, conversationId="my-chat-1")["success"]
    gone = error(server, MESSAGES, conversationId="my-chat-1")
    assert gone["extensions"]["code"] == "conversation_not_found"
    usage = '{ usage(provider: "ollama") { provider modelName day requests failures totalMs meanFirstTokenMs } }'
    # An answer is counted after its end.
    wait_until(lambda: any(one["modelName"] == "ollama:echo:latest" for one in data(server, usage)))


def test_a_private_conversation_needs_its_password(server: Running) -> None:
    made = conversation(server, password="secret123")
    assert made["isPrivate"]
    id = made["id"]
    for query, variables in (
        (MESSAGES, {"conversationId": id}),
        (MESSAGES, {"conversationId": id, "password": "wrong"}),
        ("query ($id: String!) { conversation(id: $id) { tabName } }", {"id": id}),
        (ADD, {"input": {"conversationId": id, "text": "hi"}}),
        (ADD, {"input": {"conversationId": id, "text": "hi", "sender": "llm"}}),
        (DELETE, {"conversationId": id}),
        (DELETE_AFTER, {"conversationId": id, "messageId": "1"}),
        (
            "mutation ($input: UpdateConversationInput!) { updateConversation(input: $input) { message } }",
            {"input": {"conversationId": id, "tabName": "x"}},
        ),
    ):
        found = error(server, query, **variables)
        assert found["extensions"]["code"] == "conversation_access"
        assert found["extensions"]["errorCode"] == "HF_AUTHENTICATION_ERROR"
        assert "secret123" not in json.dumps(found)
    added = data(server, ADD, input={"conversationId": id, "text": "hi", "password": "secret123"})
    assert added["llmMessage"]["text"] == "hi"
    verify = (
        "mutation ($input: VerifyPasswordInput!) { verifyPassword(input: $input) { message conversationId tabName } }"
    )
    assert data(server, verify, input={"conversationId": id, "password": "secret123"})["conversationId"] == id
    assert data(server, DELETE, conversationId=id, password="secret123")["success"]


def test_a_conversation_changes_its_model_and_keeps_one_that_is_not_there(server: Running) -> None:
    id = conversation(server, llmModel="hf:nobody/nothing")["id"]
    failed = data(server, ADD, input={"conversationId": id, "text": "hi"})
    assert failed["userMessage"]["text"] == "hi", "the message is stored"
    assert failed["llmMessage"] is None or failed["llmMessage"]["text"] == ""
    assert failed["errorCode"] == "HF_MODEL_NOT_FOUND"
    assert failed["error"]
    update = """mutation ($input: UpdateConversationInput!) {
      updateConversation(input: $input) { message conversation { tabName llmModel modelProvider system } } }"""
    changed = data(
        server, update, input={"conversationId": id, "llmModel": "echo:latest", "tabName": "New", "system": "Be brief."}
    )["conversation"]
    assert changed == {
        "tabName": "New",
        "llmModel": "ollama:echo:latest",
        "modelProvider": "ollama",
        "system": "Be brief.",
    }
    assert data(server, ADD, input={"conversationId": id, "text": "again"})["llmMessage"]["text"] == "again"


def test_an_answer_that_fails_keeps_its_part(server: Running) -> None:
    id = conversation(server, llmModel="cut:latest")["id"]
    found = data(server, ADD, input={"conversationId": id, "text": "hi"})
    assert found["code"] == "provider" or found["code"] == "provider_unavailable"
    assert found["llmMessage"]["partial"]
    assert len(found["llmMessage"]["text"]) == 3
    assert found["llmMessage"]["finishReason"] == "error"


def test_a_message_of_the_model_is_stored_only(server: Running) -> None:
    id = conversation(server)["id"]
    found = data(server, ADD, input={"conversationId": id, "text": "I said that", "sender": "llm"})
    assert (found["userMessage"], found["llmMessage"]["text"]) == (None, "I said that")
    assert len(data(server, MESSAGES, conversationId=id)) == 1


def test_a_running_answer_is_terminated(server: Running) -> None:
    id = conversation(server, llmModel=f"hf:{ENDLESS}")["id"]
    with ThreadPoolExecutor(1) as pool:
        body = {"conversationId": id, "message": "go on", "options": {"temperature": 0, "maxTokens": 50_000}}
        with talking(server, body) as events:
            session = next(events).data["sessionId"]
            _tokens(events, 20)
            rest = pool.submit(list, events)
            wrong = data(server, TERMINATE, input={"sessionId": session, "conversationId": "another"})
            assert not wrong["success"]
            found = data(server, TERMINATE, input={"sessionId": session, "conversationId": id, "reason": "enough"})
            assert rest.result()[-1].name == "end"
    assert (found["success"], found["finalStatus"], found["terminationReason"]) == (True, "terminated", "enough")
    assert len(found["partialResponse"]) >= 20
    assert found["error"] is None
    again = data(server, TERMINATE, input={"sessionId": session})
    assert (again["success"], again["error"]) == (False, "there is no such answer, or it has ended")
    arguments = "mutation ($id: String) { terminateStream(sessionId: $id) { success } }"
    assert not data(server, arguments, id=session)["success"]
    assert error(server, "mutation { terminateStream { success } }")["extensions"]["param"] == "sessionId"


def _tokens(events: Iterator[Event], count: int) -> None:
    for _ in range(count):
        next(events)


def test_a_client_that_leaves_ends_its_answer(server: Running) -> None:
    id = conversation(server, llmModel=f"hf:{ENDLESS}")["id"]
    input = {"conversationId": id, "text": "go on", "options": {"maxTokens": 60_000}}
    body = json.dumps({"query": ADD, "variables": {"input": input}}).encode()
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        head = f"POST /graphql HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        wait_until(
            lambda: any(one["sender"] == "llm" and one["text"] for one in data(server, MESSAGES, conversationId=id))
        )
    query = "query ($id: String!) { messages(conversationId: $id) { finishReason partial } }"
    wait_until(lambda: data(server, query, id=id)[-1] == {"finishReason": "terminated", "partial": True})


# Errors


@pytest.mark.parametrize(
    ("query", "variables", "expected"),
    [
        ("{", {}, "Syntax Error"),
        ("{ nothing }", {}, "Cannot query field 'nothing'"),
        ("{ conversation { id } }", {}, "of type 'String!' is required"),
        ("query ($id: String!) { conversation(id: $id) { id } }", {}, "Variable '$id'"),
        ("query ($id: String!) { conversation(id: $id) { id } }", {"id": [1]}, "Variable '$id'"),
        ("subscription { x }", {}, "subscription"),
        ("query A { __typename } query B { __typename }", {}, "operation name"),
        ("", {}, "Syntax Error"),
        ("{ conversations(limit: -1) { count } }", {}, "limit is -1"),
        ("{ conversations(limit: 100000) { count } }", {}, "limit is 100000"),
        ('{ usage(since: "yesterday") { day } }', {}, "since is not a date"),
        ('{ conversation(id: "no such") { id } }', {}, "no conversation"),
        ('{ conversation(id: "\\u0000") { id } }', {}, "no conversation"),
        ('mutation { createConversation(input: {id: "a b"}) { message } }', {}, "without white space"),
        ('mutation { addMessage(input: {conversationId: "x", text: " "}) { message } }', {}, "the message is empty"),
        ('mutation { addMessage(input: {conversationId: "x", text: "a", sender: "robot"}) { message } }', {}, "robot"),
        ('mutation { addMessage(input: {conversationId: "x", text: "a"}) { message } }', {}, "no conversation"),
    ],
)
def test_what_is_refused(server: Running, query: str, variables: dict[str, Any], expected: str) -> None:
    found = answer(server, query, **variables)
    assert expected in found["errors"][0]["message"]
    assert found["errors"][0]["extensions"]["code"] in ("usage", "conversation_not_found", "input")
    assert found.get("data") is None


def test_options_that_are_out_of_range(server: Running) -> None:
    id = conversation(server)["id"]
    found = error(server, ADD, input={"conversationId": id, "text": "a", "options": {"temperature": -1}})
    assert "temperature" in found["message"]
    assert data(server, MESSAGES, conversationId=id) == []
    found = error(server, ADD, input={"conversationId": id, "text": "a", "options": {"seed": 2**60}})
    assert "2^53" in found["message"]


@pytest.mark.parametrize(
    "query",
    [
        "{ " + "".join(f"a{number}: __typename " for number in range(MOST_ALIASES + 1)) + "}",
        "{ __schema { types { " + "ofType { " * DEEPEST + "name" + " }" * DEEPEST + " } } }",
        "{ conversations { conversations { " + "id " * MOST_FIELDS + "} } }",
        "query { " + "__typename " * MOST_TOKENS + "}",
        "{ __typename } # " + "x" * 200_000,
        # Each fragment has the one before it twice: 2^20 fields, if they are written out.
        "{ conversations { ...F20 } } fragment F0 on ConversationList { count } "
        + " ".join(f"fragment F{n} on ConversationList {{ ...F{n - 1} ...F{n - 1} }}" for n in range(1, 21)),
        "{ conversations { ...A } } fragment A on ConversationList { ...B } fragment B on ConversationList { ...A }",
    ],
)
def test_an_operation_that_takes_too_much(server: Running, query: str) -> None:
    found = answer(server, query)
    assert "data" not in found
    assert found["errors"][0]["extensions"]["code"] == "usage"


def test_the_limits_are_beyond_what_clients_send(server: Running) -> None:
    found = answer(server, get_introspection_query(descriptions=True))
    assert "errors" not in found, found
    assert {one["name"] for one in found["data"]["__schema"]["types"]} == set(schema().type_map)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ({"json": {"query": "{ __typename }", "variables": []}}, 400),
        ({"json": [{"query": "{ __typename }"}]}, 400),
        ({"json": {}}, 400),
        ({"json": {"query": None}}, 400),
        ({"content": b"{ __typename }", "headers": {"content-type": "application/graphql"}}, 415),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400),
        ({"files": {"operations": b"{}"}}, 415),
        ({"json": {"query": "{ __typename }"}, "headers": {"origin": "https://evil.example"}}, 403),
        ({"json": {"query": "{ __typename }"}, "headers": {"host": "evil.example"}}, 421),
    ],
)
def test_requests_that_are_not_json_or_of_another_origin(
    server: Running, arguments: dict[str, Any], status: int
) -> None:
    with server.client() as client:
        response = client.post("/graphql", **arguments)
    assert response.status_code == status
    (entry,) = response.json()["errors"]
    assert {"code", "errorCode"} <= set(entry["extensions"])


def test_other_methods_are_not_allowed(server: Running) -> None:
    response = server.get("/graphql", params={"query": "{ __typename }"})
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert response.json()["errors"][0]["extensions"]["code"] == "method"


def test_clients_of_the_newer_media_type_get_a_status(server: Running) -> None:
    headers = {"accept": "application/graphql-response+json, application/json;q=0.9"}
    good = server.post("/graphql", {"query": "{ __typename }"}, headers=headers)
    assert (good.status_code, good.headers["content-type"]) == (200, "application/graphql-response+json")
    assert server.post("/graphql", {"query": "{"}, headers=headers).status_code == 400


# Keys


def test_keys_and_their_scopes(keyed: Keyed) -> None:
    server = keyed.server
    reader, user, other = (
        keyed.key(name, *scopes)
        for name, scopes in (("reader", ("read",)), ("user", ("read", "infer")), ("other", ("read", "infer")))
    )
    for query in ("{ __schema { queryType { name } } }", "{ availableModels { count } }", "{ __typename }"):
        response = server.post("/graphql", {"query": query})
        assert response.status_code == 401
        assert response.json()["errors"][0]["extensions"]["code"] == "unauthorized"
    assert data(server, "{ __schema { queryType { name } } }", reader) == {"queryType": {"name": "Query"}}
    assert data(server, "{ availableModels { count } }", reader)["count"] > 0
    input = {"id": "mine", "llmModel": "echo:latest"}
    refused = error(server, CREATE, reader, input=input)
    assert (refused["extensions"]["code"], refused["extensions"]["scope"]) == ("forbidden", "infer")
    data(server, CREATE, user, input=input)
    assert data(server, ADD, user, input={"conversationId": "mine", "text": "hi"})["llmMessage"]["text"] == "hi"
    assert error(server, MESSAGES, other, conversationId="mine")["extensions"]["code"] == "conversation_access"
    assert data(server, "{ conversations { count conversations { id } } }", other)["count"] == 0
    assert error(server, DELETE, reader, conversationId="mine")["extensions"]["code"] == "forbidden"
