"""Answers and lines of ``/api/chat`` and ``/api/generate``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from gpux.errors import InputError
from gpux.server.api.ollama.generation import error_line
from tests.pipelines.reciter import ARGUMENTS
from tests.pipelines.writer import LIMIT, expected
from tests.server.running import CALLER, CLASSIFIER, EMBEDDER, RECITER, WRITER, Running, serving

CHAT = [{"role": "user", "content": "abc"}]
PROMPT = "<user>abc<assistant>"
BODY = {"model": WRITER, "messages": CHAT, "options": {"num_predict": 9}}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"location": {"type": "string"}}},
    },
}
RECITED: dict[str, Any] = {"model": RECITER, "options": {"num_predict": 100}}
CALL = {"function": {"name": "get_weather", "arguments": {"location": "Oslo"}}}
COUNTS = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")


def lines(server: Running, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines of a stream; each is a JSON object, none is blank."""
    answer = server.post(path, body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    *found, end = answer.text.split("\n")
    assert end == ""
    return [json.loads(line) for line in found]


def whole(server: Running, path: str = "chat", **more: Any) -> dict[str, Any]:
    """The answer without a stream."""
    body = BODY if path == "chat" else {"model": WRITER, "prompt": "abc", "options": {"num_predict": 9}}
    answer = server.post(f"/api/{path}", {**body, "stream": False, **more})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_chat_is_streamed_line_by_line_unless_the_request_says_otherwise(server: Running) -> None:
    *pieces, last = lines(server, "/api/chat", BODY)
    assert "".join(one["message"]["content"] for one in pieces) == expected(PROMPT, 9)
    assert all((one["done"], one["message"]["role"], one["model"]) == (False, "assistant", WRITER) for one in pieces)
    assert (last["done"], last["done_reason"], last["message"]["content"]) == (True, "length", "")
    assert (last["prompt_eval_count"], last["eval_count"]) == (5, 9)
    assert all(isinstance(last[name], int) and last[name] > 0 for name in COUNTS)
    assert last["total_duration"] >= last["load_duration"]
    found = whole(server)
    assert found["message"] == {"role": "assistant", "content": expected(PROMPT, 9)}
    assert set(found) == set(last)
    assert found["created_at"].endswith("Z")


def test_a_prompt_is_a_turn_of_a_chat_unless_it_is_raw(server: Running) -> None:
    *pieces, last = lines(server, "/api/generate", {"model": WRITER, "prompt": "abc", "options": {"num_predict": 9}})
    assert "".join(one["response"] for one in pieces) == expected(PROMPT, 9)
    assert (last["response"], last["done_reason"]) == ("", "length")
    assert whole(server, "generate", raw=True)["response"] == expected("abc", 9)
    system = whole(server, "generate", system="be")["response"]
    assert (
        system
        == expected("<system>be" + PROMPT, 9)
        == whole(server, messages=[{"role": "system", "content": "be"}, *CHAT])["message"]["content"]
    )


def test_the_options_decide_about_the_answer(server: Running) -> None:
    text = expected(PROMPT, 9)
    stopped = whole(server, options={"num_predict": 9, "stop": [text[3:5]]})
    assert (stopped["message"]["content"], stopped["done_reason"]) == (text[: text.index(text[3:5])], "stop")
    sampled = {"temperature": 1.5, "seed": 7, "top_k": 40, "top_p": 0.9, "num_predict": 9, "num_ctx": 2048}
    one, other = (whole(server, options=sampled)["message"]["content"] for _ in range(2))
    assert one == other != text
    assert whole(server, options={**sampled, "temperature": 0})["message"]["content"] == text
    assert whole(server, options={"num_predict": -1})["eval_count"] > 9
    assert (
        whole(server, options={"num_predict": 9, "repeat_penalty": 9.0, "repeat_last_n": 0})["message"]["content"]
        == text
    )


def test_a_format_that_the_model_cannot_write_is_refused(server: Running) -> None:
    for wanted in ("json", {"type": "integer"}):  # this tokenizer has no grammar; tests/clients has a model with one
        answer = server.post("/api/chat", {**BODY, "format": wanted})
        assert answer.status_code == 400
        assert answer.json()["error"].startswith("structured output is not possible")
    assert whole(server, format="")["message"]["content"] == expected(PROMPT, 9)


def test_log_probabilities_are_those_of_the_tokens(server: Running) -> None:
    logs = whole(server, logprobs=True, top_logprobs=2)["logprobs"]
    assert "".join(one["token"] for one in logs) == expected(PROMPT, 9)
    assert all(len(one["top_logprobs"]) == 2 for one in logs)
    *pieces, _ = lines(server, "/api/chat", {**BODY, "logprobs": True, "top_logprobs": 2})
    assert [log for one in pieces for log in one["logprobs"]] == logs


def test_messages_may_have_what_clients_send_without_a_value(server: Running) -> None:
    messages = [
        {"role": "user", "content": "a", "images": [], "tool_calls": None},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]},
        {"role": "tool", "content": "1", "tool_name": "f", "tool_call_id": "1"},
        *CHAT,
    ]
    found = whole(server, messages=messages, tools=[], think=False, format=None, keep_alive="5m")
    assert found["message"]["content"] == expected("<user>a<assistant><tool>1" + PROMPT, 9)


@pytest.mark.parametrize(
    ("path", "more", "words"),
    [
        ("chat", {"messages": [{"role": "king", "content": "a"}]}, "messages[0].role"),
        ("chat", {"messages": [{"role": "user"}]}, "messages[0] has no content"),
        ("chat", {"messages": [{"role": "user", "content": "a", "images": ["aaaa"]}]}, "messages[0].images"),
        ("chat", {"messages": [{"role": "user", "content": "a" * LIMIT}]}, "context"),
        ("chat", {"tools": [WEATHER]}, "tools are not read by this model's chat template"),
        ("chat", {"model": RECITER, "tools": [WEATHER, WEATHER]}, "two tools have the name get_weather"),
        ("chat", {"model": RECITER, "tools": [{"function": {}}]}, "name"),
        ("chat", {"messages": [{"role": "tool", "content": "a"}]}, "messages[0] is a result of a tool"),
        (
            "chat",
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        ("chat", {"think": True}, "does not support thinking"),
        ("chat", {"model": CALLER, "think": False}, "always thinks"),
        ("chat", {"model": RECITER, "think": "high"}, "no level of thinking 'high'"),
        ("chat", {"options": {"num_predict": "9"}}, "options.num_predict"),
        ("chat", {"options": {"temperature": -1}}, "options.temperature"),
        ("chat", {"options": {"mirostat": 1}}, "options.mirostat is not supported"),
        ("chat", {"options": {"heat": 1}}, "heat"),
        ("chat", {"top_logprobs": 3}, "top_logprobs needs logprobs"),
        ("chat", {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ("chat", {"format": "xml"}, "format"),
        ("chat", {"keep_alive": "soon"}, "keep_alive"),
        ("chat", {"model": ""}, "model is required"),
        ("chat", {"model": CLASSIFIER}, CLASSIFIER),
        ("chat", {"unheard_of": 1}, "unheard_of"),
        ("generate", {"suffix": "a"}, "suffix is not supported"),
        ("generate", {"template": "a"}, "template is not supported"),
        ("generate", {"context": [1, 2]}, "context is not supported"),
        ("generate", {"images": ["aaaa"]}, "images is not supported"),
        ("generate", {"raw": True, "system": "a"}, "raw and system"),
    ],
)
def test_an_invalid_request_is_named_in_a_text(server: Running, path: str, more: dict[str, Any], words: str) -> None:
    body = BODY if path == "chat" else {"model": WRITER, "prompt": "abc"}
    for stream in ({}, {"stream": False}):
        answer = server.post(f"/api/{path}", {**body, **stream, **more})
        assert answer.status_code == 400, answer.text
        assert set(answer.json()) == {"error"}
        assert words in answer.json()["error"]


def test_a_call_is_a_line_after_the_thinking(server: Running) -> None:
    *pieces, last = lines(server, "/api/chat", {**BODY, **RECITED, "tools": [WEATHER]})
    messages = [one["message"] for one in pieces]
    assert "".join(one.get("thinking", "") for one in messages) == "I need the weather."
    assert [one["content"] for one in messages] == [""] * len(messages)
    assert [set(one) for one in messages[:2]] == [{"role", "content", "thinking"}] * 2
    [call] = [call for one in messages for call in one.get("tool_calls", [])]
    assert call.pop("id").startswith("call_")
    assert call == {"function": {"index": 0, "name": "get_weather", "arguments": ARGUMENTS}}
    assert (last["done_reason"], last["message"]) == ("stop", {"role": "assistant", "content": ""})
    found = whole(server, **RECITED, tools=[WEATHER])
    assert found["message"]["thinking"] == "I need the weather."
    assert [one["function"] for one in found["message"]["tool_calls"]] == [call["function"]]
    assert (found["message"]["content"], found["done_reason"]) == ("", "stop")


def test_a_call_that_is_cut_is_text(server: Running) -> None:
    cut = {**RECITED, "options": {"num_predict": 9}}
    text = '<tool_call>\n{"name": "get_weather", "arguments": {"location": '
    found = whole(server, **cut, tools=[WEATHER])
    *pieces, last = lines(server, "/api/chat", {**BODY, **cut, "tools": [WEATHER]})
    assert found["done_reason"] == last["done_reason"] == "length"
    assert "".join(one["message"]["content"] for one in pieces) == text
    assert found["message"]["content"] == text
    assert "tool_calls" not in found["message"]


@pytest.mark.parametrize("more", [{}, {"tool_name": "get_weather"}, {"tool_call_id": "7"}])
def test_a_result_is_read(server: Running, more: dict[str, str]) -> None:
    call = {**CALL, "id": "7"} if "tool_call_id" in more else CALL
    messages = [*CHAT, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": "dry", **more}]
    found = whole(server, **RECITED, messages=messages, tools=[WEATHER])
    assert found["message"] == {"role": "assistant", "content": "It is dry."}
    named = [*messages[:-1], {**messages[-1], "tool_name": "get_weather"}]
    assert found["prompt_eval_count"] == whole(server, **RECITED, messages=named, tools=[WEATHER])["prompt_eval_count"]


def test_thinking_is_apart_and_chosen_by_the_variable_of_the_template(server: Running) -> None:
    for path, of in (("chat", lambda one: one["message"]), ("generate", lambda one: one)):
        text = "content" if path == "chat" else "response"
        for more in ({}, {"think": True}):
            found = of(whole(server, path, **RECITED, **more))
            assert (found["thinking"], found[text]) == ("A greeting.", "Hello there, you.")
        quiet = of(whole(server, path, **RECITED, think=False))
        assert (quiet[text], "thinking" in quiet) == ("Hello there, you.", False)
    body = {**RECITED, "prompt": "abc"}
    assert "".join(one.get("thinking", "") for one in lines(server, "/api/generate", body)) == "A greeting."


@pytest.mark.parametrize("path", ["chat", "generate", "embed", "embeddings", "show"])
def test_a_model_that_is_not_stored_is_404(server: Running, path: str) -> None:
    answer = server.post(f"/api/{path}", {"model": "no/such:latest"})
    assert answer.status_code == 404
    assert answer.json()["error"].startswith("model 'no/such:latest' not found")


def test_an_error_within_a_stream_is_a_line() -> None:
    assert error_line(InputError("the text is long", hint="Shorten it.")) == (
        b'{"error":"the text is long. Shorten it."}\n'
    )


def test_a_body_needs_no_content_type_from_clients_that_are_no_browsers(server: Running) -> None:
    text = json.dumps({**BODY, "stream": False})
    for headers in ({}, {"content-type": "application/x-www-form-urlencoded"}):
        with server.client() as client:
            assert client.post("/api/chat", content=text, headers=headers).status_code == 200
            refused = client.post("/api/chat", content=text, headers={**headers, "sec-fetch-site": "same-origin"})
            assert refused.status_code == 415
            assert set(refused.json()) == {"error"}


def test_an_unknown_path_is_404_in_the_shape_of_the_api(server: Running) -> None:
    answer = server.get("/api/unheard-of")
    assert (answer.status_code, set(answer.json())) == (404, {"error"})
    answer = server.get("/api/chat")
    assert (answer.status_code, set(answer.json())) == (405, {"error"})


def test_empty_requests_load_and_unload_a_model(filled_home: Path, tmp_path: Path) -> None:
    home = tmp_path / "own"
    shutil.copytree(filled_home, home, ignore=shutil.ignore_patterns("servers", "*.log", "*.db*"))
    with serving(home) as running:

        def names() -> list[str]:
            return [one["name"] for one in running.get("/api/ps").json()["models"]]

        assert names() == []
        found = running.post("/api/generate", {"model": WRITER, "keep_alive": -1}).json()
        assert (found["done"], found["done_reason"], found["response"]) == (True, "load", "")
        assert running.get("/api/ps").json()["models"][0]["expires_at"].startswith("2318")
        found = running.post("/api/chat", {"model": f"{WRITER}:latest", "messages": [], "keep_alive": "1h"}).json()
        assert (found["done_reason"], found["message"]["content"]) == ("load", "")
        assert names() == [f"{WRITER}:fp32"]
        assert running.post("/api/embed", {"model": EMBEDDER, "input": []}).json()["embeddings"] == []
        assert set(names()) == {f"{WRITER}:fp32", f"{EMBEDDER}:fp32"}
        found = running.post("/api/chat", {"model": WRITER, "messages": [], "keep_alive": 0}).json()
        assert found["done_reason"] == "unload"
        assert names() == [f"{EMBEDDER}:fp32"]
        with running.client() as client:
            deleted = client.request("DELETE", "/api/delete", json={"model": f"{EMBEDDER}:fp32"})
            assert (deleted.status_code, deleted.content) == (200, b"")
            assert client.request("DELETE", "/api/delete", json={"model": EMBEDDER}).status_code == 404
        assert names() == []
