"""Answers, events and refusals of ``/v1/responses``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.pipelines.reciter import ARGUMENTS
from tests.pipelines.writer import LIMIT, expected
from tests.server.running import CALLER, CLASSIFIER, RECITER, TURNS, WRITER, Running

PATH = "/v1/responses"
BODY = {"model": WRITER, "input": "abc", "max_output_tokens": 9}
TEXT = expected("<user>abc<assistant>", 9)
VOLATILE = {"id": "", "created_at": 0, "completed_at": 0, "output": [], "usage": None}


def respond(server: Running, **more: Any) -> Any:
    """The JSON of a response."""
    answer = server.post(PATH, {**BODY, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def written(response: Any) -> str:
    """The text of a response."""
    [item] = response["output"]
    [part] = item["content"]
    return str(part["text"])


def events(server: Running, **more: Any) -> list[dict[str, Any]]:
    """The events of a stream, each named by its type, in the order of their numbers."""
    answer = server.post(PATH, {**BODY, "stream": True, **more})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in answer.text.removesuffix("data: [DONE]\n\n").removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    assert [one["sequence_number"] for one in found] == list(range(len(found)))
    return found


def test_a_text_is_answered_as_a_chat(server: Running) -> None:
    found = respond(server)
    assert (found["object"], found["status"], found["model"], found["store"]) == (
        "response",
        "incomplete",
        WRITER,
        False,
    )
    assert found["incomplete_details"] == {"reason": "max_output_tokens"}
    assert (found["id"][:5], written(found)) == ("resp_", TEXT)
    assert found["output"][0]["status"] == "incomplete"
    usage = found["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (5, 9, 14)


def test_a_response_that_ends_itself_is_completed(server: Running) -> None:
    found = respond(server, stop=TEXT[3:5])
    assert (found["status"], found["incomplete_details"]) == ("completed", None)
    assert written(found) == TEXT[: TEXT.index(TEXT[3:5])]


@pytest.mark.parametrize("model", [WRITER, TURNS])
def test_the_events_of_a_stream_build_the_response(server: Running, model: str) -> None:
    found = events(server, model=model)
    names = [one["type"].removeprefix("response.") for one in found]
    deltas = ["output_text.delta"] * names.count("output_text.delta")
    assert names == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        *deltas,
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "incomplete",
    ]
    assert "".join(one["delta"] for one in found if "delta" in one) == TEXT
    whole = respond(server, model=model)
    assert {**found[-1]["response"], **VOLATILE} == {**whole, **VOLATILE}
    assert written(found[-1]["response"]) == TEXT
    [item] = found[-1]["response"]["output"]
    assert found[2]["item"]["id"] == item["id"]
    assert {one["item_id"] for one in found if "item_id" in one} == {item["id"]}
    assert (found[0]["response"]["status"], found[0]["response"]["output"]) == ("in_progress", [])


def test_items_are_the_messages_of_a_chat(server: Running) -> None:
    items = [
        {"type": "message", "role": "developer", "content": "b"},
        {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "c"}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "phase": None}
        | {"content": [{"type": "output_text", "text": "d", "annotations": [], "logprobs": []}]},
        {"role": "user", "content": "abc"},
    ]
    messages = [
        {"role": "system", "content": "x\n\nb"},
        {"role": "user", "content": "a\nc"},
        {"role": "assistant", "content": "d"},
        {"role": "user", "content": "abc"},
    ]
    chat = server.post("/v1/chat/completions", {"model": WRITER, "messages": messages, "max_tokens": 9}).json()
    found = respond(server, input=items, instructions="x")
    assert written(found) == chat["choices"][0]["message"]["content"]
    assert found["usage"]["input_tokens"] == chat["usage"]["prompt_tokens"]
    counted = server.post(f"{PATH}/input_tokens", {"model": WRITER, "input": items, "instructions": "x"})
    assert counted.json() == {"object": "response.input_tokens", "input_tokens": chat["usage"]["prompt_tokens"]}


def test_log_probabilities_are_those_of_the_tokens(server: Running) -> None:
    found = respond(server, include=["message.output_text.logprobs"], top_logprobs=2)
    logs = found["output"][0]["content"][0]["logprobs"]
    assert "".join(one["token"] for one in logs) == TEXT
    assert all(len(one["top_logprobs"]) == 2 for one in logs)
    streamed = events(server, top_logprobs=2)
    assert [log for one in streamed if "delta" in one for log in one["logprobs"]] == logs


def test_an_error_within_a_stream_ends_it_as_failed(server: Running) -> None:
    # Each token may come once, so that all are forbidden before the answer may end.
    found = events(server, no_repeat_ngram_size=1, min_tokens=55, max_output_tokens=58)
    error, failed = found[-2:]
    assert (error["type"], failed["type"], failed["response"]["status"]) == ("error", "response.failed", "failed")
    assert failed["response"]["error"] == {"code": "server_error", "message": error["message"]}
    assert found[-3]["type"] == "response.output_text.delta"
    assert failed["response"]["output"][0]["status"] == "incomplete"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"input": []}, "input"),
        ({"input": 3}, "input"),
        ({"input": [{"role": "king", "content": "a"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"type": "message", "content": "a"}]}, "input[0].role"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}]},
            "input[0].content[0]",
        ),
        ({"input": [{"role": "user", "content": [{"type": "video"}]}]}, "input[0].content[0].type"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type"),
        ({"input": [{"type": ["a"]}]}, "input[0].type"),
        ({"input": [{}]}, "input[0].type"),
        ({"input": [{"type": "function_call", "call_id": "a", "name": "b"}]}, "input[0].arguments"),
        ({"input": "a" * LIMIT}, "input"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 2.1}, "temperature"),
        ({"truncation": "auto"}, "truncation"),
        ({"include": ["file_search_call.results"]}, "include[0]"),
        ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_object", "schema": {}}}}, "text.format.schema"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"text": {"verbosity": "high"}}, "text.verbosity"),
        ({"stream_options": {"include_obfuscation": False}}, "stream_options"),
        ({"model": CLASSIFIER}, "model"),
        ({"unheard_of": 1}, "unheard_of"),
    ],
)
def test_an_invalid_parameter_is_named(server: Running, more: dict[str, Any], param: str) -> None:
    answer = server.post(PATH, {**BODY, **more})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)


def test_an_error_before_the_stream_has_its_own_status(server: Running) -> None:
    answer = server.post(PATH, {**BODY, "model": "no/such", "stream": True})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert server.get(f"{PATH}/resp_1").status_code == 404


WEATHER = {"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {"location": {}}}}
CALL = {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": '{"location": "Oslo"}'}
RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "dry"}
WORDS = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 5}}, "required": ["city"]}


def test_reasoning_and_calls_are_items_of_their_own(server: Running) -> None:
    found = respond(server, model=RECITER, tools=[WEATHER], max_output_tokens=None)
    thought, call = found["output"]
    assert (found["status"], thought["type"], thought["summary"]) == ("completed", "reasoning", [])
    assert thought["content"] == [{"type": "reasoning_text", "text": "I need the weather."}]
    assert (call["type"], call["name"], call["status"]) == ("function_call", "get_weather", "completed")
    assert json.loads(call["arguments"]) == ARGUMENTS
    assert [tool["name"] for tool in found["tools"]] == ["get_weather"]
    assert 0 < found["usage"]["output_tokens_details"]["reasoning_tokens"] < found["usage"]["output_tokens"]
    talk = respond(server, model=RECITER, max_output_tokens=None)
    assert [one["type"] for one in talk["output"]] == ["reasoning", "message"]
    assert talk["output"][1]["content"][0]["text"] == "Hello there, you."


def test_the_events_of_a_call_build_the_response(server: Running) -> None:
    more = {"model": RECITER, "tools": [WEATHER], "max_output_tokens": None}
    found = events(server, **more)
    names = [one["type"].removeprefix("response.") for one in found]
    assert list(dict.fromkeys(names)) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "completed",
    ]
    thought, call = found[-1]["response"]["output"]
    for kind, item, text in (
        ("reasoning_text", thought, thought["content"][0]["text"]),
        ("function_call_arguments", call, call["arguments"]),
    ):
        deltas = [one for one in found if one["type"] == f"response.{kind}.delta"]
        assert len(deltas) > 1 and {one["item_id"] for one in deltas} == {item["id"]}
        assert "".join(one["delta"] for one in deltas) == text
    added = [one["item"] for one in found if one["type"] == "response.output_item.added"]
    assert [(one["id"], one["status"]) for one in added] == [(one["id"], "in_progress") for one in (thought, call)]
    assert added[1]["arguments"] == ""
    done = [one["item"] for one in found if one["type"] == "response.output_item.done"]
    assert done == [thought, call]
    whole = respond(server, **more)
    assert {**found[-1]["response"], **VOLATILE} == {**whole, **VOLATILE}


def test_the_items_of_a_call_and_its_result_are_sent_back(server: Running) -> None:
    first = respond(server, model=RECITER, tools=[WEATHER], max_output_tokens=None)
    [*_, call] = first["output"]
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "dry"}
    items = [{"role": "user", "content": "Rain?"}, *first["output"], result]
    found = respond(server, model=RECITER, input=items, tools=[WEATHER], max_output_tokens=None)
    assert written(found) == "It is dry."


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "get_weather"}])
def test_a_chosen_function_is_called(server: Running, choice: Any) -> None:
    pytest.importorskip("llguidance", reason="llguidance is not installed (extra `structured`)")
    more = {"tools": [{**WEATHER, "parameters": WORDS}], "tool_choice": choice, "parallel_tool_calls": False}
    found = respond(server, model=CALLER, **more, max_output_tokens=400)
    [call] = found["output"]
    assert (call["type"], call["name"]) == ("function_call", "get_weather")
    assert set(json.loads(call["arguments"])) == {"city"}
    assert found["tool_choice"] == choice
    cut = respond(server, model=CALLER, **more, max_output_tokens=45)
    assert (cut["status"], cut["output"][0]["status"]) == ("incomplete", "incomplete")


def test_tools_are_part_of_the_prompt_unless_they_are_hidden(server: Running) -> None:
    counts = [
        server.post(f"{PATH}/input_tokens", {"model": RECITER, "input": "abc", **more}).json()["input_tokens"]
        for more in ({}, {"tools": [WEATHER], "tool_choice": "none"}, {"tools": [WEATHER]})
    ]
    assert counts[0] == counts[1] < counts[2]
    found = respond(server, model=RECITER, tools=[WEATHER], max_output_tokens=None)
    assert found["usage"]["input_tokens"] == counts[2]
    hidden = respond(server, model=RECITER, tools=[WEATHER], tool_choice="none", max_output_tokens=None)
    assert [one["type"] for one in hidden["output"]] == ["reasoning", "message"]


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"model": WRITER}, "tools"),
        ({"tools": [WEATHER, WEATHER]}, "tools[1].name"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{**WEATHER, "name": "a b"}]}, "tools[0].name"),
        ({"tools": [{**WEATHER, "defer_loading": True}]}, "tools[0].defer_loading"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "other"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice.type"),
        ({"input": [RESULT]}, "input[0].call_id"),
        ({"input": [CALL, {**RESULT, "call_id": "call_2"}]}, "input[1].call_id"),
        ({"input": [{**CALL, "arguments": '{"location": '}]}, "input[0].arguments"),
        ({"input": [{**CALL, "arguments": "[]"}]}, "input[0].arguments"),
    ],
)
def test_an_invalid_tool_is_named(server: Running, more: dict[str, Any], param: str) -> None:
    for path in (PATH, f"{PATH}/input_tokens"):
        answer = server.post(path, {"model": RECITER, "input": "abc", "tools": [WEATHER], **more})
        error = answer.json()["error"]
        assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param), error
