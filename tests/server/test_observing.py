"""Health, metrics and request ids of a running server."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families

from gpux.server.logs import JsonFormatter, TextFormatter
from tests.server.running import RECITER, WRITER, Running, serving
from tests.waiting import wait_until

CHATS = "/v1/chat/completions"
CHAT = {"model": WRITER, "messages": [{"role": "user", "content": "abc"}], "max_tokens": 9}


def samples(server: Running) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of the metrics: (name, labels) -> value."""
    text = server.get("/metrics").text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(server: Running, name: str, **labels: str) -> float:
    return samples(server).get((name, frozenset(labels.items())), 0.0)


def test_a_server_without_models_is_healthy_live_and_ready(server: Running) -> None:
    health = server.get("/health").json()
    assert (health["status"], health["reasons"]) == ("ok", [])
    for path in ("/healthz", "/livez", "/live", "/ping", "/readyz", "/ready"):
        assert server.get(path).status_code == 200


def test_an_answer_is_counted_with_its_tokens(server: Running) -> None:
    before = samples(server)
    assert server.post("/v1/chat/completions", CHAT).status_code == 200
    after = samples(server)

    def added(name: str, **labels: str) -> float:
        key = (name, frozenset(labels.items()))
        return after.get(key, 0.0) - before.get(key, 0.0)

    chat = {"api": "openai", "route": "/v1/chat/completions"}
    assert added("gpux_http_requests_total", **chat, method="POST", status="200") == 1
    assert added("gpux_http_request_seconds_count", **chat) == 1
    assert added("gpux_requests_total", model=WRITER, kind="generate", outcome="ok") == 1
    assert added("gpux_generated_tokens_total", model=WRITER) == 9
    assert added("gpux_time_to_first_token_seconds_count", model=WRITER) == 1
    assert added("gpux_sequences_total", model=WRITER, finish_reason="length") == 1


RECITAL = {"model": RECITER, "messages": [{"role": "user", "content": "Count."}], "max_tokens": 30_000}


def generated(server: Running) -> float:
    """Tokens of :data:`RECITER`, whose vocabulary has whole words, so that each piece of text has one at least."""
    return value(server, "gpux_generated_tokens_total", model=RECITER)


def outcomes(server: Running) -> dict[str, float]:
    """How many requests for a text of :data:`RECITER` had each end."""
    return {
        dict(labels)["outcome"]: found
        for (name, labels), found in samples(server).items()
        if name == "gpux_requests_total" and {("model", RECITER), ("kind", "generate")} <= labels
    }


def read_some(server: Running, kill: bool = False) -> int:
    """Read a part of a stream, then leave, or kill the model's process and read the rest; the pieces of text."""
    pieces = 0
    with server.client() as client, client.stream("POST", CHATS, json={**RECITAL, "stream": True}) as answer:
        for line in answer.iter_lines():
            if re.search(r'"(reasoning_)?content":"[^"]', line) is None:
                continue
            pieces += 1
            if pieces == 20 and not kill:
                break
            if pieces == 20:
                [worker] = psutil.Process(server.process.pid).children()
                os.kill(worker.pid, signal.SIGKILL)
    return pieces


def test_the_tokens_of_an_answer_whose_client_leaves_are_counted(filled_home: Path) -> None:
    with serving(filled_home) as server:
        pieces = read_some(server)
        cancelled = {"model": RECITER, "finish_reason": "cancelled"}
        wait_until(lambda: value(server, "gpux_sequences_total", **cancelled) == 1)
        assert outcomes(server) == {"cancelled": 1}
        assert pieces <= generated(server) < 30_000
        assert value(server, "gpux_prompt_tokens_total", model=RECITER) > 0
        # Of an answer that is sent whole, no piece reaches the server.
        before = generated(server)
        host, _, port = server.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as client:
            body = json.dumps(RECITAL)
            head = f"POST {CHATS} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
            client.sendall(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
            wait_until(lambda: value(server, "gpux_rows", model=RECITER) == 1)
        wait_until(lambda: value(server, "gpux_sequences_total", **cancelled) == 2)
        assert outcomes(server) == {"cancelled": 2}
        assert generated(server) > before


def test_the_tokens_of_a_worker_that_is_killed_are_counted(filled_home: Path) -> None:
    with serving(filled_home) as server:
        pieces = read_some(server, kill=True)
        assert outcomes(server) == {"worker_died": 1}
        assert pieces <= generated(server) < 30_000
        assert server.post(CHATS, {**RECITAL, "max_tokens": 5}).status_code == 200  # its process is another one
        assert outcomes(server) == {"worker_died": 1, "ok": 1}


def test_the_tokens_of_an_answer_that_takes_too_long_are_counted(filled_home: Path) -> None:
    with serving(filled_home, ["--request-timeout", "1s"]) as server:
        assert server.post(CHATS, RECITAL).status_code == 504
        cancelled = {"model": RECITER, "finish_reason": "cancelled"}
        wait_until(lambda: value(server, "gpux_sequences_total", **cancelled) == 1)
        assert outcomes(server) == {"deadline": 1}
        assert 0 < generated(server) < 30_000
        assert value(server, "gpux_requests_late_total", model=RECITER) == 1


def test_unknown_paths_and_models_add_no_label(server: Running) -> None:
    server.get("/attack/7f3c")
    with server.client() as client:
        client.request("BREW", "/attack/7f3c")
    server.post("/v1/chat/completions", {**CHAT, "model": "attack/7f3c"})
    text = server.get("/metrics").text
    assert "7f3c" not in text
    assert "BREW" not in text


def test_the_log_has_neither_queries_nor_bodies(server: Running) -> None:
    server.get("/v1/models?key=hidden-in-the-query", headers={"x-request-id": "seen-in-the-log"})
    server.post("/v1/chat/completions", {**CHAT, "messages": [{"role": "user", "content": "hidden-in-the-body"}]})
    wait_until(lambda: "seen-in-the-log" in server.log.read_text())
    assert "hidden" not in server.log.read_text()


def test_a_path_cannot_add_lines_to_the_log() -> None:
    record = logging.makeLogRecord({"msg": "GET %s", "args": ("/a\n2026 error /b\x1b[2J",), "levelname": "INFO"})
    assert "\n" not in TextFormatter().format(record)
    assert "\x1b" not in TextFormatter().format(record)
    assert json.loads(JsonFormatter().format(record))["message"] == record.getMessage()


def test_a_server_is_ready_when_the_models_of_the_start_are_loaded(filled_home: Path) -> None:
    with serving(filled_home, [WRITER, "--log-format", "json"]) as server:
        wait_until(lambda: server.get("/readyz").status_code == 200)
        assert [one["model"] for one in server.get("/health").json()["models"]] == [WRITER]
        lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
        assert {"/readyz"} <= {line.get("path") for line in lines}


def test_a_request_id_is_returned_and_made_where_it_is_missing_or_strange(server: Running) -> None:
    assert server.get("/livez", headers={"x-request-id": "trace-1.a:b"}).headers["x-request-id"] == "trace-1.a:b"
    for strange in ({}, {"x-request-id": 'a"b c'}, {"x-request-id": "a" * 65}):
        made = server.get("/v1/nothing", headers=strange).headers["x-request-id"]
        assert re.fullmatch(r"req_[0-9a-f]{24}", made)
