"""Answers and streams of ``/v1/completions``."""

from __future__ import annotations

from typing import Any

import pytest

from tests.pipelines.writer import expected
from tests.server.api.test_openai_chat import events
from tests.server.running import EMBEDDER, WRITER, Running

BODY = {"model": WRITER, "prompt": "abc", "max_tokens": 9}


def complete(server: Running, **more: Any) -> Any:
    """The JSON of an answer."""
    answer = server.post("/v1/completions", {**BODY, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_prompt_is_continued(server: Running) -> None:
    answer = complete(server)
    assert answer["id"].startswith("cmpl-")
    assert answer["object"] == "text_completion"
    assert answer["choices"] == [{"index": 0, "text": expected("abc", 9), "finish_reason": "length", "logprobs": None}]


def test_sixteen_tokens_are_the_default(server: Running) -> None:
    answer = complete(server, max_tokens=None)
    assert answer["choices"][0]["text"] == expected("abc", 16)


def test_each_prompt_has_its_choices_in_order(server: Running) -> None:
    answer = complete(server, prompt=["abc", "x", "the"])
    assert [one["index"] for one in answer["choices"]] == [0, 1, 2]
    assert [one["text"] for one in answer["choices"]] == [expected(prompt, 9) for prompt in ("abc", "x", "the")]
    assert answer["usage"]["prompt_tokens"] == 7


def test_echo_puts_the_prompt_first(server: Running) -> None:
    whole = "abc" + expected("abc", 9)
    assert complete(server, echo=True)["choices"][0]["text"] == whole
    chunks = events(server, "/v1/completions", {**BODY, "echo": True})
    assert "".join(one["choices"][0]["text"] for one in chunks) == whole


def test_a_stream_has_the_pieces_of_every_prompt(server: Running) -> None:
    body = {**BODY, "prompt": ["abc", "x"], "stream_options": {"include_usage": True}}
    chunks = events(server, "/v1/completions", body)
    assert {one["object"] for one in chunks} == {"text_completion"}
    texts = {0: "", 1: ""}
    ends = {}
    for chunk in chunks[:-1]:
        [choice] = chunk["choices"]
        texts[choice["index"]] += choice["text"]
        if choice["finish_reason"] is not None:
            ends[choice["index"]] = choice["finish_reason"]
    assert texts == {0: expected("abc", 9), 1: expected("x", 9)}
    assert ends == {0: "length", 1: "length"}
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["completion_tokens"]) == ([], 18)


def test_log_probabilities_have_the_place_of_each_token(server: Running) -> None:
    choice = complete(server, logprobs=2)["choices"][0]
    logs = choice["logprobs"]
    assert "".join(logs["tokens"]) == choice["text"]
    assert logs["text_offset"] == list(range(9))
    for token, logprob, top in zip(logs["tokens"], logs["token_logprobs"], logs["top_logprobs"], strict=True):
        assert (len(top), top[token]) == (2, logprob)
    chunks = [one["choices"][0]["logprobs"] for one in events(server, "/v1/completions", {**BODY, "logprobs": 2})]
    assert [place for one in chunks if one is not None for place in one["text_offset"]] == list(range(9))
    assert complete(server, logprobs=0)["choices"][0]["logprobs"]["top_logprobs"] is None


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1, 2]]}, "prompt[0]"),
        ({"prompt": ["a", 1.5]}, "prompt[1]"),
        ({"best_of": 3}, "best_of"),
        ({"suffix": "end"}, "suffix"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"messages": []}, "messages"),
        ({"model": EMBEDDER}, "model"),
    ],
)
def test_an_invalid_parameter_is_named(server: Running, more: dict[str, Any], param: str) -> None:
    answer = server.post("/v1/completions", {**BODY, **more})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
