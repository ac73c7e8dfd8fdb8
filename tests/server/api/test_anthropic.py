"""Answers, events and refusals of ``/v1/messages``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.pipelines.writer import LIMIT, expected
from tests.server.running import CLASSIFIER, TURNS, WRITER, Running

PATH = "/v1/messages"
BODY = {"model": WRITER, "max_tokens": 9, "messages": [{"role": "user", "content": "abc"}]}
TEXT = expected("<user>abc<assistant>", 9)
HEADERS = {"x-api-key": "none", "anthropic-version": "2023-06-01"}


def answer(server: Running, **more: Any) -> Any:
    """The message that answers."""
    found = server.post(PATH, {**BODY, **more}, headers=HEADERS)
    assert found.status_code == 200, found.text
    assert found.headers["request-id"] == found.headers["x-request-id"]
    return found.json()


def events(server: Running, **more: Any) -> list[dict[str, Any]]:
    """The events of a stream, each named by its type."""
    response = server.post(PATH, {**BODY, "stream": True, **more}, headers=HEADERS)
    assert response.status_code == 200, response.text
    found = []
    for block in response.text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def test_a_message_is_answered_as_a_chat(server: Running) -> None:
    found = answer(server)
    assert found.pop("id").startswith("msg_")
    usage = found.pop("usage")
    assert found == {
        "type": "message",
        "role": "assistant",
        "model": WRITER,
        "content": [{"type": "text", "text": TEXT}],
        "stop_reason": "max_tokens",
        "stop_sequence": None,
    }
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] == 5
    assert usage["output_tokens"] == 9


@pytest.mark.parametrize("model", [WRITER, TURNS])
def test_the_events_of_a_stream_build_the_message(server: Running, model: str) -> None:
    found = events(server, model=model)
    names = [one["type"] for one in found]
    deltas = ["content_block_delta"] * names.count("content_block_delta")
    before = ["message_start", "content_block_start", "ping"]
    assert names == [*before, *deltas, "content_block_stop", "message_delta", "message_stop"]
    assert "".join(one["delta"]["text"] for one in found[3:-3]) == TEXT
    start, end = found[0]["message"], found[-2]
    assert (start["content"], start["stop_reason"], start["usage"]["input_tokens"]) == ([], None, 5)
    assert end["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
    assert end["usage"]["output_tokens"] == 9


def test_a_stop_sequence_is_named(server: Running) -> None:
    found = answer(server, stop_sequences=["nowhere", TEXT[3:5]])
    assert (found["stop_reason"], found["stop_sequence"]) == ("stop_sequence", TEXT[3:5])
    assert found["content"][0]["text"] == TEXT[: TEXT.index(TEXT[3:5])]


def test_blocks_are_the_messages_of_a_chat(server: Running) -> None:
    cached = {"cache_control": {"type": "ephemeral"}}
    given = {
        "system": [{"type": "text", "text": "x", **cached}, {"type": "text", "text": "y"}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "c", **cached}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "t", "signature": "s"},
                    {"type": "text", "text": "d"},
                    {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "e"}]},
                    {"type": "text", "text": "abc"},
                ],
            },
        ],
    }
    messages = [
        {"role": "system", "content": "x\ny"},
        {"role": "user", "content": "a\nc"},
        {"role": "assistant", "content": "d", "tool_calls": [{"id": "toolu_1", "function": {"name": "f"}}]},
        {"role": "tool", "content": "e", "tool_call_id": "toolu_1"},
        {"role": "user", "content": "abc"},
    ]
    chat = server.post("/v1/chat/completions", {"model": WRITER, "messages": messages, "max_tokens": 9}).json()
    assert answer(server, **given)["content"][0]["text"] == chat["choices"][0]["message"]["content"]
    counted = server.post(f"{PATH}/count_tokens", {"model": WRITER, **given}, headers=HEADERS)
    assert counted.json() == {"input_tokens": chat["usage"]["prompt_tokens"]}


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "king", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "messages[0].content[0]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_use", "id": "a", "name": "b", "input": {}}]}]},
            "role",
        ),
        ({"messages": [{"role": "user", "content": "a" * LIMIT}]}, "messages"),
        ({"temperature": 1.5}, "temperature"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
        ({"model": CLASSIFIER}, "text-classification"),
        ({"container": "c"}, "container"),
        ({"unheard_of": 1}, "unheard_of"),
    ],
)
def test_an_invalid_parameter_is_named(server: Running, more: dict[str, Any], named: str) -> None:
    for stream in (False, True):
        found = server.post(PATH, {**BODY, "stream": stream, **more}, headers=HEADERS)
        body = found.json()
        assert (found.status_code, body["type"], body["error"]["type"]) == (400, "error", "invalid_request_error")
        assert named in body["error"]["message"]
        assert body["request_id"] == found.headers["request-id"] == found.headers["x-request-id"]


def test_errors_have_the_types_of_the_api(server: Running) -> None:
    for path, status, kind in (("", 404, "not_found_error"), ("/batches", 404, "not_found_error")):
        found = server.post(f"{PATH}{path}", {**BODY, "model": "no/such"}, headers=HEADERS)
        assert (found.status_code, found.json()["error"]["type"]) == (status, kind)
    assert server.get(PATH).json()["type"] == "error"
