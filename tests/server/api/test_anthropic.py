"""Answers, events and refusals of ``/v1/messages``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.reciter import ARGUMENTS
from tests.pipelines.writer import LIMIT, expected
from tests.server.running import CALLER, CLASSIFIER, RECITER, TURNS, WRITER, Running, serving

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
    before = ["message_start", "ping", "content_block_start"]
    assert names == [*before, *deltas, "content_block_stop", "message_delta", "message_stop"]
    assert "".join(one["delta"]["text"] for one in found[3:-3]) == TEXT
    start, end = found[0]["message"], found[-2]
    assert (start["content"], start["stop_reason"], start["usage"]["input_tokens"]) == ([], None, 5)
    assert end["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
    assert end["usage"]["output_tokens"] == 9


def test_a_stream_is_one_request_of_the_queue(filled_home: Path) -> None:
    with serving(filled_home, ["--max-queue", "1"]) as full:
        assert events(full)[0]["message"]["usage"]["input_tokens"] == 5


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
        (
            {"thinking": {"type": "enabled", "budget_tokens": 1024}},
            "thinking: 'tests/writer' does not support thinking",
        ),
        ({"thinking": {"type": "enabled", "display": "omitted"}}, "thinking.display"),
        ({"thinking": {"type": "often"}}, "thinking.type"),
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


WEATHER = {"name": "get_weather", "input_schema": {"type": "object", "properties": {"location": {"type": "string"}}}}
RECITED = {"model": RECITER, "max_tokens": 100}
USE = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "dry"}


def test_thinking_and_calls_are_blocks_of_their_own(server: Running) -> None:
    found = answer(server, **RECITED, tools=[WEATHER])
    thought, call = found["content"]
    assert thought == {"type": "thinking", "thinking": "I need the weather.", "signature": ""}
    assert (call["type"], call["name"], call["input"], call["id"][:6]) == (
        "tool_use",
        "get_weather",
        ARGUMENTS,
        "toolu_",
    )
    assert found["stop_reason"] == "tool_use"
    assert 0 < found["usage"]["output_tokens_details"]["thinking_tokens"] < found["usage"]["output_tokens"]
    assert [one["type"] for one in answer(server, **RECITED)["content"]] == ["thinking", "text"]


def test_the_events_of_a_call_build_the_message(server: Running) -> None:
    found = events(server, **RECITED, tools=[WEATHER])
    starts = [one for one in found if one["type"] == "content_block_start"]
    assert [(one["index"], one["content_block"]["type"]) for one in starts] == [(0, "thinking"), (1, "tool_use")]
    assert starts[1]["content_block"]["input"] == {}
    assert [one["index"] for one in found if one["type"] == "content_block_stop"] == [0, 1]
    deltas = [one for one in found if one["type"] == "content_block_delta"]
    kinds = [(one["index"], one["delta"]["type"]) for one in deltas]
    assert list(dict.fromkeys(kinds)) == [(0, "thinking_delta"), (1, "input_json_delta")]
    assert "".join(one["delta"].get("thinking", "") for one in deltas) == "I need the weather."
    assert json.loads("".join(one["delta"].get("partial_json", "") for one in deltas)) == ARGUMENTS
    assert kinds.count((1, "input_json_delta")) > 1
    assert found[-2]["delta"]["stop_reason"] == "tool_use"
    counted = server.post(f"{PATH}/count_tokens", {"model": RECITER, "messages": BODY["messages"], "tools": [WEATHER]})
    assert counted.json()["input_tokens"] == found[0]["message"]["usage"]["input_tokens"]


def test_a_result_is_read(server: Running) -> None:
    first = answer(server, **RECITED, tools=[WEATHER])["content"]
    results = [{"type": "tool_result", "tool_use_id": first[1]["id"], "content": "dry"}]
    turns = [*BODY["messages"], {"role": "assistant", "content": first}, {"role": "user", "content": results}]
    assert answer(server, **RECITED, tools=[WEATHER], messages=turns)["content"] == [
        {"type": "text", "text": "It is dry."}
    ]


@pytest.mark.parametrize(
    "choice", [{"type": "any", "disable_parallel_tool_use": True}, {"type": "tool", "name": "get_weather"}]
)
def test_a_chosen_tool_is_called(server: Running, choice: Any) -> None:
    pytest.importorskip("llguidance", reason="llguidance is not installed (extra `structured`)")
    schema = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 5}}, "required": ["city"]}
    more = {"model": CALLER, "tools": [{**WEATHER, "input_schema": schema}], "tool_choice": choice}
    found = answer(server, **more, max_tokens=400)
    assert [(one["type"], set(one["input"])) for one in found["content"]] == [("tool_use", {"city"})]
    cut = answer(server, **more, max_tokens=45)
    assert (cut["stop_reason"], cut["content"][0]["input"]) == ("max_tokens", {})


def test_tools_are_part_of_the_prompt_unless_they_are_hidden(server: Running) -> None:
    counts = [
        server.post(f"{PATH}/count_tokens", {"model": RECITER, "messages": BODY["messages"], **more}).json()[
            "input_tokens"
        ]
        for more in ({}, {"tools": [WEATHER], "tool_choice": {"type": "none"}}, {"tools": [WEATHER]})
    ]
    assert counts[0] == counts[1] < counts[2]


def test_thinking_is_chosen_by_the_variable_of_the_template(server: Running) -> None:
    for given, kinds in (("enabled", ["thinking", "text"]), ("adaptive", ["thinking", "text"]), ("disabled", ["text"])):
        thinking = {"type": given, **({"budget_tokens": 1024} if given == "enabled" else {})}
        assert [one["type"] for one in answer(server, **RECITED, thinking=thinking)["content"]] == kinds
    assert answer(server, thinking={"type": "disabled"})["content"] == [{"type": "text", "text": TEXT}]
    always = server.post(PATH, {**BODY, "model": CALLER, "thinking": {"type": "disabled"}}, headers=HEADERS)
    assert always.json()["error"]["message"].startswith("thinking: 'tests/caller' always thinks")


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"model": WRITER}, "tools"),
        ({"tools": [WEATHER, WEATHER]}, "tools[1].name"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type"),
        ({"tools": [{**WEATHER, "name": "a b"}]}, "tools[0].name"),
        ({"tools": [{"name": "a"}]}, "tools[0].input_schema"),
        ({"tools": [], "tool_choice": {"type": "any"}}, "tool_choice needs tools"),
        ({"tool_choice": {"type": "tool", "name": "other"}}, "tool_choice names other"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice of the type tool needs a name"),
        ({"tool_choice": {"type": "any", "name": "get_weather"}}, "tool_choice of the type any has a name"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"messages": [{"role": "user", "content": [RESULT]}]}, "messages[0].content[0].tool_use_id"),
        ({"messages": [{"role": "assistant", "content": [{**USE, "input": "{"}]}]}, "messages[0].content[0].input"),
    ],
)
def test_an_invalid_tool_is_named(server: Running, more: dict[str, Any], named: str) -> None:
    body = {**BODY, **RECITED, "tools": [WEATHER], **more}
    for path in (PATH, f"{PATH}/count_tokens"):
        if path != PATH:
            body = {name: value for name, value in body.items() if name != "max_tokens"}
        found = server.post(path, body, headers=HEADERS)
        assert (found.status_code, found.json()["error"]["type"]) == (400, "invalid_request_error")
        assert named in found.json()["error"]["message"]
