"""Answers and streams of ``/v1/chat/completions``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.pipelines.writer import LIMIT, expected
from tests.server.running import CLASSIFIER, TURNS, WRITER, Running

CHAT = [{"role": "user", "content": "abc"}]
PROMPT = "<user>abc<assistant>"
BODY = {"model": WRITER, "messages": CHAT, "max_tokens": 9}


def chat(server: Running, **more: Any) -> Any:
    """The JSON of an answer."""
    answer = server.post("/v1/chat/completions", {**BODY, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def events(server: Running, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The chunks of a stream that ends as it should."""
    answer = server.post(path, {**body, "stream": True})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-cache", "no")
    found = answer.text.split("\n\n")
    assert found[-2:] == ["data: [DONE]", ""]
    return [json.loads(event.removeprefix("data: ")) for event in found[:-2]]


def test_a_chat_is_answered_as_the_model_does(server: Running) -> None:
    answer = chat(server)
    assert answer["id"].startswith("chatcmpl-")
    assert (answer["object"], answer["model"]) == ("chat.completion", WRITER)
    [choice] = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": expected(PROMPT, 9), "refusal": None}
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "length", None)
    usage = answer["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (5, 9, 14)
    assert set(usage["prompt_tokens_details"]) == {"cached_tokens"}


def test_the_pieces_of_a_stream_are_the_answer(server: Running) -> None:
    chunks = events(server, "/v1/chat/completions", BODY)
    assert len({(one["id"], one["created"], one["model"], one["object"]) for one in chunks}) == 1
    assert all("usage" not in chunk for chunk in chunks)
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert not any("role" in choice["delta"] for choice in choices[1:])
    assert "".join(choice["delta"].get("content", "") for choice in choices) == expected(PROMPT, 9)
    assert (choices[-1]["delta"], choices[-1]["finish_reason"]) == ({}, "length")
    assert {choice["finish_reason"] for choice in choices[:-1]} == {None}


def test_a_stream_counts_its_tokens_when_requested(server: Running) -> None:
    chunks = events(server, "/v1/chat/completions", {**BODY, "stream_options": {"include_usage": True}})
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 9
    assert {chunk["usage"] for chunk in chunks[:-1]} == {None}
    assert all(chunk["choices"] for chunk in chunks[:-1])


def test_messages_reach_the_template_as_texts(server: Running) -> None:
    messages = [
        {"role": "developer", "content": "b"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "c"}], "name": "d"},
        {"role": "assistant", "content": None, "refusal": "no", "audio": None, "function_call": None},
        {"role": "user", "content": "abc"},
    ]
    plain = [
        {"role": "system", "content": "b"},
        {"role": "user", "content": "a\nc"},
        {"role": "assistant", "content": "no"},
        CHAT[0],
    ]
    assert chat(server, messages=messages)["choices"] == chat(server, messages=plain)["choices"]


def test_an_answer_ends_before_a_stop_text(server: Running) -> None:
    whole = expected(PROMPT, 9)
    choice = chat(server, stop=["nowhere", whole[3:5], "a b", "x y", "z z"])["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (whole[: whole.index(whole[3:5])], "stop")
    assert chat(server, stop=whole[3:5])["choices"][0] == choice


def test_several_answers_are_streamed_with_their_numbers(server: Running) -> None:
    more = {"n": 3, "seed": 7, "temperature": 1.5}
    whole = chat(server, **more)
    texts = [choice["message"]["content"] for choice in whole["choices"]]
    assert len(set(texts)) == 3
    assert whole["usage"]["prompt_tokens"] == 5
    pieces, roles, ends = ["", "", ""], [0, 0, 0], [0, 0, 0]
    for chunk in events(server, "/v1/chat/completions", {**BODY, **more}):
        for choice in chunk["choices"]:
            index = choice["index"]
            pieces[index] += choice["delta"].get("content", "")
            roles[index] += "role" in choice["delta"]
            ends[index] += choice["finish_reason"] is not None
    assert (pieces, roles, ends) == (texts, [1, 1, 1], [1, 1, 1])


@pytest.mark.parametrize("model", [WRITER, TURNS])
def test_log_probabilities_are_those_of_the_tokens(server: Running, model: str) -> None:
    more = {"model": model, "logprobs": True, "top_logprobs": 2}
    content = chat(server, **more)["choices"][0]["logprobs"]["content"]
    assert "".join(one["token"] for one in content) == expected(PROMPT, 9)
    for one in content:
        best, second = one["top_logprobs"]
        assert (best["token"], best["logprob"]) == (one["token"], one["logprob"])
        assert second["logprob"] <= best["logprob"] <= 0
        assert bytes(one["bytes"]).decode() == one["token"]
    chunks = events(server, "/v1/chat/completions", {**BODY, **more})
    logs = [choice["logprobs"] for chunk in chunks for choice in chunk["choices"]]
    assert [one for log in logs if log is not None for one in log["content"]] == content


def test_sampling_follows_the_seed_and_biases(server: Running) -> None:
    sampled = [chat(server, seed=seed, temperature=1.5, top_p=0)["choices"] for seed in (-3, 2**70 % 2**63)]
    assert sampled[0] == sampled[1] == chat(server)["choices"]  # top_p 0 leaves the most likely token
    one, other = (chat(server, seed=-3, temperature=1.0)["choices"] for _ in range(2))
    assert one == other
    token = {character: 4 + index for index, character in enumerate("abcdefghijklmnopqrstuvwxyz")}["q"]
    assert chat(server, logit_bias={str(token): 100})["choices"][0]["message"]["content"] == "q" * 9


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "abc"}, "messages"),
        ({"messages": [{"role": "king", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "a", "mood": 1}]}, "messages[0].mood"),
        ({"messages": [{"role": "assistant"}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
            "messages[0].content[0]",
        ),
        ({"messages": [{"role": "user", "content": "a" * LIMIT}]}, "messages"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 2, "temperature": 0}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_completion_tokens"),
        ({"min_tokens": 10}, "min_tokens"),
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"stop": ""}, "stop"),
        ({"stop": [1]}, "stop[0]"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"logit_bias": {"999": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias[...]"),
        ({"stream": False, "stream_options": {"include_usage": True}}, "stream_options"),
        ({"chat_template_kwargs": {"a": 10**30}}, None),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
        ({"stream": True, "stream_options": {"more": True}}, "stream_options.more"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_object", "pattern": "a"}}, "response_format.pattern"),
        ({"response_format": {"type": "json_object", "value": {}, "pattern": "a"}}, "response_format.pattern"),
        ({"response_format": {"type": "text", "value": {}}}, "response_format.value"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}},
            "response_format.json_schema.name",
        ),
        ({"model": CLASSIFIER}, "model"),
        ({"model": None}, "model"),
        ({"unheard_of": 1}, "unheard_of"),
    ],
)
def test_an_invalid_parameter_is_named(server: Running, more: dict[str, Any], param: str | None) -> None:
    for stream in ({}, {"stream": True}):
        answer = server.post("/v1/chat/completions", {**BODY, **stream, **more})
        error = answer.json()["error"]
        assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)


def test_an_error_before_the_stream_has_its_own_status(server: Running) -> None:
    answer = server.post("/v1/chat/completions", {**BODY, "model": "no/such", "stream": True})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    long = [{"role": "user", "content": "a" * LIMIT}]
    answer = server.post("/v1/chat/completions", {**BODY, "messages": long, "stream": True})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")


@pytest.mark.parametrize("model", [WRITER, TURNS])
def test_an_error_within_a_stream_is_its_last_event(server: Running, model: str) -> None:
    # Each token may come once, so that all are forbidden before the answer may end.
    more = {"model": model, "no_repeat_ngram_size": 1, "min_tokens": 55, "max_tokens": 58, "stream": True}
    answer = server.post("/v1/chat/completions", {**BODY, **more})
    assert answer.status_code == 200
    *pieces, last, end = answer.text.split("\n\n")
    assert len(pieces) > 20
    assert end == ""
    error = json.loads(last.removeprefix("data: "))["error"]
    assert (error["type"], set(error)) == ("invalid_request_error", {"message", "type", "param", "code"})
    assert "every next token is forbidden" in error["message"]
    assert server.post("/v1/chat/completions", {**BODY, **more, "stream": False}).status_code == 400
