"""How a server starts and ends: its address, its signals, and what is left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx2
import psutil

from tests.server.running import TURNS, Running, serving
from tests.waiting import wait_until

LONG = 600  #: prompts, which take a minute


def stream(running: Running, prompts: int) -> dict[str, Any]:
    """Answers to a number of prompts, one after the other, streamed to a thread: the lines that it reads."""
    found: dict[str, Any] = {"lines": [], "begun": threading.Event()}

    def read() -> None:
        body = {"model": TURNS, "prompt": ["abc"] * prompts, "max_tokens": 50, "stream": True}
        try:
            with running.client() as client, client.stream("POST", "/v1/completions", json=body) as answer:
                for line in answer.iter_lines():
                    if line:
                        found["lines"].append(line)
                    if len(found["lines"]) > 2:
                        found["begun"].set()
        except httpx2.HTTPError as exc:
            found["error"] = exc
        found["begun"].set()

    found["thread"] = threading.Thread(target=read)
    found["thread"].start()
    return found


def children(running: Running) -> list[psutil.Process]:
    return psutil.Process(running.process.pid).children(recursive=True)


def gone(processes: list[psutil.Process]) -> bool:
    return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)


def test_a_stream_that_runs_when_the_server_is_stopped_is_answered_to_its_end(filled_home: Path) -> None:
    with serving(filled_home, [TURNS]) as running:
        wait_until(lambda: running.get("/readyz").status_code == 200)
        workers = children(running)
        for one in workers:
            one.suspend()
        answer = stream(running, 2)
        wait_until(lambda: [one["running"] for one in running.get("/health").json()["models"]] == [1])
        running.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "Stopping" in running.log.read_text())
        for one in workers:
            one.resume()
        answer["thread"].join()
        assert "error" not in answer
        assert answer["lines"][-1] == "data: [DONE]"
        assert running.process.wait() == 0
        assert gone(workers)
        assert not list((filled_home / "servers").glob(f"{running.process.pid}.json"))


def test_a_stream_that_is_too_long_ends_with_an_error_as_its_last_event(filled_home: Path) -> None:
    with serving(filled_home, [TURNS, "--drain-timeout", "100ms"]) as running:
        answer = stream(running, LONG)
        answer["begun"].wait()
        running.process.send_signal(signal.SIGINT)
        answer["thread"].join()
        assert "error" not in answer
        assert json.loads(answer["lines"][-1].removeprefix("data: "))["error"]["message"].startswith("the server is")
        assert running.process.wait() == 0


def test_requests_are_refused_while_running_ones_end_and_a_second_signal_ends_all_at_once(filled_home: Path) -> None:
    with serving(filled_home, [TURNS]) as running, running.client() as client:
        workers = children(running)
        assert client.get("/v1/models").status_code == 200
        answer = stream(running, LONG)
        answer["begun"].wait()
        running.process.send_signal(signal.SIGINT)
        wait_until(lambda: client.get("/v1/models").status_code == 503)
        refused = client.get("/v1/models")
        assert refused.headers["connection"] == "close"
        assert refused.json()["error"]["code"] == "overloaded"
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait() == 130
        wait_until(lambda: gone(workers))
        assert not list((filled_home / "servers").glob(f"{running.process.pid}.json"))
        answer["thread"].join()


def serve(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "gpux", "serve", "--json", *arguments]
    environment = {**os.environ, "GPUX_HOME": str(home), "HF_HOME": str(home / "hf")}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_a_port_in_use_names_its_process_and_a_free_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = serve(tmp_path, "--port", str(port))
        error = json.loads(ended.stdout)["error"]
        assert (ended.returncode, error["code"]) == (10, "address")
        assert f"port {port}" in error["message"]
        assert f"(process {os.getpid()})" in error["message"]
        assert "gpux serve --port " in error["hint"]


def test_a_port_of_another_server_names_that_server(server: Running) -> None:
    ended = serve(server.home, "--port", server.url.rpartition(":")[2])
    error = json.loads(ended.stdout)["error"]
    assert error["code"] == "address"
    assert server.url in error["message"]
    assert f"gpux stop {server.url}" in error["hint"]


def test_a_host_that_is_not_of_this_machine_is_an_error(tmp_path: Path) -> None:
    error = json.loads(serve(tmp_path, "--host", "no-such-host.invalid").stdout)["error"]
    assert error["code"] == "address"
    assert "--host 127.0.0.1" in error["hint"]
