"""Answers of ``/v1/chat/completions`` are those of the pipeline."""

from __future__ import annotations

import json

from tests.pipelines.writer import expected
from tests.server.running import WRITER, Running

CHAT = [{"role": "user", "content": "abc"}]
PROMPT = "<user>abc<assistant>"


def test_a_chat_is_answered_as_the_model_does(server: Running) -> None:
    answer = server.post("/v1/chat/completions", {"model": WRITER, "messages": CHAT, "max_tokens": 9}).json()
    assert answer["choices"][0]["message"]["content"] == expected(PROMPT, 9)


def test_the_pieces_of_a_stream_are_the_answer(server: Running) -> None:
    body = {"model": WRITER, "messages": CHAT, "max_tokens": 9, "stream": True}
    events = server.post("/v1/chat/completions", body).text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == expected(PROMPT, 9)
