"""Tool calls and reasoning in ``/v1/chat/completions``, of a model whose calls a grammar enforces."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gpux.server.workers.messages import Ready
from tests.pipelines.reciter import ARGUMENTS
from tests.server.api.test_openai_chat import events
from tests.server.running import CALLER, RECITER, WRITER, Running
from tests.server.workers.conftest import started, stored_model

PATH = "/v1/chat/completions"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "minLength": 2, "maxLength": 8},
                "days": {"type": "integer", "minimum": 1, "maximum": 9},
            },
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}}
COUNTED = [
    {"role": "user", "content": "Rain?"},
    {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "get_weather"}}]},
    {"role": "tool", "tool_call_id": "1", "content": "dry"},
]
BODY: dict[str, Any] = {
    "model": CALLER,
    "messages": [{"role": "user", "content": "Rain?"}],
    "tools": [WEATHER, CLOCK],
    "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
    "max_tokens": 400,
}


@pytest.fixture(autouse=True)
def library() -> None:
    pytest.importorskip("llguidance", reason="llguidance is not installed (extra `structured`)")


def answered(server: Running, **more: Any) -> dict[str, Any]:
    """The choice of an answer."""
    answer = server.post(PATH, {**BODY, **more})
    assert answer.status_code == 200, answer.text
    choice: dict[str, Any] = answer.json()["choices"][0]
    return choice


def test_a_named_function_is_called(server: Running) -> None:
    choice = answered(server)
    assert choice["finish_reason"] == "tool_calls"
    message = choice["message"]
    assert (message["role"], message["content"], message["refusal"]) == ("assistant", None, None)
    [call] = message["tool_calls"]
    assert (call["type"], call["function"]["name"], call["id"][:5]) == ("function", "get_weather", "call_")
    arguments = json.loads(call["function"]["arguments"])
    assert list(arguments) == ["city", "days"]
    assert 2 <= len(arguments["city"]) <= 8 and 1 <= arguments["days"] <= 9


def test_a_call_is_streamed_in_pieces(server: Running) -> None:
    whole = answered(server)["message"]["tool_calls"][0]["function"]
    choices = [choice for chunk in events(server, PATH, BODY) for choice in chunk["choices"]]
    assert choices[0]["delta"] == {"role": "assistant", "content": None}
    deltas = [choice["delta"]["tool_calls"] for choice in choices[1:-1]]
    assert all(len(delta) == 1 and delta[0]["index"] == 0 for delta in deltas)
    first, *rest = [delta[0] for delta in deltas]
    assert (first["type"], first["function"]) == ("function", {"name": whole["name"], "arguments": ""})
    assert first["id"]
    assert all(set(delta) == {"index", "function"} and set(delta["function"]) == {"arguments"} for delta in rest)
    assert len(rest) > 3
    assert "".join(delta["function"]["arguments"] for delta in rest) == whole["arguments"]
    assert (choices[-1]["delta"], choices[-1]["finish_reason"]) == ({}, "tool_calls")


@pytest.mark.parametrize("seed", range(4))
def test_a_required_call_is_one_of_the_tools(server: Running, seed: int) -> None:
    more = {"tool_choice": "required", "seed": seed, "temperature": 2.0}
    calls = answered(server, **more, parallel_tool_calls=False)["message"]["tool_calls"]
    assert [call["function"]["name"] in ("get_weather", "get_time") for call in calls] == [True]
    json.loads(calls[0]["function"]["arguments"])


def test_an_answer_is_in_its_format_or_calls(server: Running) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    for seed in range(6):
        more = {"tool_choice": "auto", "response_format": form, "seed": seed, "temperature": 2.0}
        choice = answered(server, **more, parallel_tool_calls=False)
        if choice["finish_reason"] == "stop":
            assert set(json.loads(choice["message"]["content"])) == {"a"}
            assert "tool_calls" not in choice["message"]
        elif choice["finish_reason"] == "tool_calls":
            assert choice["message"]["tool_calls"]


@pytest.mark.parametrize("strict", [True, False])
def test_a_strict_tool_is_called_as_its_schema_says(server: Running, strict: bool) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 3}}, "required": ["city"]}
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": schema, "strict": strict}}
    more = {"model": RECITER, "tools": [tool], "tool_choice": "auto"}
    message = answered(server, **more)["message"]
    assert message["reasoning_content"] == "I need the weather."
    arguments = json.loads(message["tool_calls"][0]["function"]["arguments"])
    assert (set(arguments) == {"city"}) is strict and (arguments == ARGUMENTS) is not strict
    talk = answered(server, **more, chat_template_kwargs={"enable_thinking": False}, messages=COUNTED)
    assert talk["message"]["content"] == "It is dry."


def test_a_call_that_is_cut_has_its_arguments_so_far(server: Running) -> None:
    choice = answered(server, max_tokens=48)
    assert choice["finish_reason"] == "length"
    assert choice["message"]["tool_calls"][0]["function"]["arguments"].startswith('{"')


def test_a_hidden_tool_is_not_in_the_prompt(server: Running) -> None:
    plain = {"model": CALLER, "messages": BODY["messages"], "max_tokens": 5}
    lengths = [
        server.post(PATH, body).json()["usage"]["prompt_tokens"]
        for body in (plain, {**BODY, "max_tokens": 5, "tool_choice": "none"}, {**BODY, "max_tokens": 5})
    ]
    assert lengths[0] == lengths[1] < lengths[2]


def test_the_results_of_calls_reach_the_template(server: Running) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
    messages = [
        *BODY["messages"],
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "dry"},
    ]
    body = {"model": CALLER, "messages": messages, "max_tokens": 1}
    prompt = "#user:Rain?#assistant:#get_weatherOslo##tool:dry=get_weather#assistant:"  # one token for each special one
    assert server.post(PATH, body).json()["usage"]["prompt_tokens"] == len(prompt)
    messages[-1]["name"] = "forecast"  # as some clients send besides
    assert server.post(PATH, body).json()["usage"]["prompt_tokens"] == len(prompt.replace("=get_weather", "=forecast"))


@pytest.mark.parametrize("opened", [False, True])
def test_reasoning_is_apart_from_the_answer(server: Running, opened: bool) -> None:
    pattern = ("" if opened else "<think>\\n") + "[ab]{3}\\n</think>\\n\\n[cd]{4}"
    more = {"response_format": {"type": "regex", "pattern": pattern}, "chat_template_kwargs": {"think": opened}}
    body = {**BODY, "tools": None, "tool_choice": None, **more}
    message = server.post(PATH, body).json()["choices"][0]["message"]
    assert set(message["reasoning_content"]) <= set("ab") and len(message["reasoning_content"]) == 3
    assert set(message["content"]) <= set("cd") and len(message["content"]) == 4
    deltas = [choice["delta"] for chunk in events(server, PATH, body) for choice in chunk["choices"]]
    for name in ("reasoning_content", "content"):
        assert "".join(delta.get(name) or "" for delta in deltas) == message[name]


def test_an_effort_sets_the_variable_of_the_template(server: Running) -> None:
    def read(path: str, **more: Any) -> int:
        body = {"model": CALLER, **more}
        usage: dict[str, int] = server.post(path, body).json()["usage"]
        return usage.get("prompt_tokens") or usage["input_tokens"] + usage.get("cache_read_input_tokens", 0)

    chat = {"messages": BODY["messages"], "max_tokens": 1}
    added = len("(low)")
    assert read(PATH, **chat, reasoning_effort="low") - read(PATH, **chat) == added
    assert read("/v1/messages", **chat, output_config={"effort": "low"}) - read("/v1/messages", **chat) == added
    response = {"input": "Rain?", "max_output_tokens": 1}
    effort = {"reasoning": {"effort": "low"}}
    assert read("/v1/responses", **response, **effort) - read("/v1/responses", **response) == added
    counts = [
        server.post("/v1/responses/input_tokens", {"model": CALLER, "input": "Rain?", **more}).json()["input_tokens"]
        for more in ({}, effort)
    ]
    assert counts[1] - counts[0] == added
    quiet = answered(server, model=RECITER, tools=None, tool_choice=None, reasoning_effort="none")["message"]
    assert (quiet["content"], "reasoning_content" in quiet) == ("Hello there, you.", False)


@pytest.mark.parametrize(
    ("model", "effort", "words"),
    [
        (WRITER, "low", "has no level of thinking 'low'. Omit it."),
        (RECITER, "low", "It can only be turned on and off."),
        (CALLER, "max", "It has low, medium, high."),
        (CALLER, "none", "always thinks"),
    ],
)
def test_an_effort_that_the_model_does_not_have_is_refused(
    server: Running, model: str, effort: str, words: str
) -> None:
    body = {"model": model, "messages": BODY["messages"], "reasoning_effort": effort}
    error = server.post(PATH, body).json()["error"]
    assert error["param"] == "reasoning_effort" and words in error["message"], error
    response = {"model": model, "input": "Rain?", "reasoning": {"effort": effort}}
    assert server.post("/v1/responses", response).json()["error"]["param"] == "reasoning.effort"


def test_a_worker_says_which_calls_its_model_writes(filled_home: Path) -> None:
    async def info() -> Ready:
        async with started(stored_model(filled_home, CALLER)) as worker:
            return worker.info

    found = asyncio.run(info())
    assert {"tools", "reasoning"} <= set(found.capabilities)
    assert found.outputs["tools"] == "hermes"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"model": WRITER, "tool_choice": "auto"}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "custom", "custom": {"name": "a"}}]}, "tools[0].type"),
        ({"tools": [WEATHER, WEATHER]}, "tools[1].function.name"),
        ({"tools": []}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice.function.name"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"functions": [{"name": "a"}]}, "functions"),
    ],
)
def test_an_invalid_tool_is_named(server: Running, more: dict[str, Any], param: str) -> None:
    error = server.post(PATH, {**BODY, **more}).json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param), error


CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "dry"}


@pytest.mark.parametrize(
    ("calls", "result", "param"),
    [
        ([], RESULT, "messages[2].tool_call_id"),
        ([CALL], {**RESULT, "tool_call_id": "call_2"}, "messages[2].tool_call_id"),
        (
            [{**CALL, "function": {"name": "f", "arguments": '{"a": '}}],
            RESULT,
            "messages[1].tool_calls[0].function.arguments",
        ),
        (
            [{**CALL, "function": {"name": "f", "arguments": "[]"}}],
            RESULT,
            "messages[1].tool_calls[0].function.arguments",
        ),
        ([{"id": "call_1"}], RESULT, "messages[1].tool_calls[0].function"),
    ],
)
def test_a_broken_call_or_result_is_named(server: Running, calls: Any, result: Any, param: str) -> None:
    messages = [*BODY["messages"], {"role": "assistant", "content": "a", "tool_calls": calls}, result]
    error = server.post(PATH, {**BODY, "messages": messages}).json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param), error


def test_a_schema_that_cannot_be_enforced_is_named(server: Running) -> None:
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": 1}}}
    answer = server.post(PATH, {**BODY, "tools": [tool]})
    assert answer.status_code == 400, answer.text
