"""httpx2, the HTTP library of openai's client: streams, keep-alive, cancellation, errors."""

from __future__ import annotations

import asyncio
import json
import time

import httpx2
from checks import CHAT, EMBEDDER, URL, check, main

BODY = {"model": CHAT, "messages": [{"role": "user", "content": "abc"}], "max_tokens": 12}
client = httpx2.Client(base_url=URL, timeout=60.0, trust_env=False)


def running() -> float:
    """Requests that a model answers now, by the metrics."""
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("gpux_requests_running{"))


@check
def answers_a_chat() -> None:
    answer = client.post("/v1/chat/completions", json=BODY)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-request-id"]
    assert answer.json()["usage"]["completion_tokens"] == 12


@check
def streams_the_same_text() -> None:
    whole = client.post("/v1/chat/completions", json=BODY).json()["choices"][0]["message"]["content"]
    with client.stream("POST", "/v1/chat/completions", json={**BODY, "stream": True}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    pieces = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
    assert "".join(pieces) == whole


@check
def runs_many_requests_at_once() -> None:
    async def many() -> list[int]:
        async with httpx2.AsyncClient(base_url=URL, timeout=60.0, trust_env=False) as several:
            sent = [several.post("/v1/chat/completions", json=BODY) for _ in range(20)]
            return [answer.status_code for answer in await asyncio.gather(*sent)]

    assert asyncio.run(many()) == [200] * 20


@check
def a_client_that_leaves_frees_the_model() -> None:
    with client.stream("POST", "/v1/chat/completions", json={**BODY, "max_tokens": 200, "stream": True}) as response:
        next(response.iter_lines())
    end = time.monotonic() + 30
    while running() and time.monotonic() < end:
        time.sleep(0.05)
    assert running() == 0


@check
def an_unknown_model_is_404_in_the_api_s_shape() -> None:
    answer = client.post("/v1/chat/completions", json={**BODY, "model": "no/such"})
    assert answer.status_code == 404
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@check
def embeds_texts() -> None:
    answer = client.post("/v1/embeddings", json={"model": EMBEDDER, "input": ["a b", "c"]})
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["data"]) == 2


main("httpx2", httpx2.__version__)
