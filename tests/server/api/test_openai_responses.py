"""Answers, events and refusals of ``/v1/responses``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.pipelines.writer import LIMIT, expected
from tests.server.running import CLASSIFIER, TURNS, WRITER, Running

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
