"""Full queues, little memory, full disks, killed workers: each its own status, in the shape of each API."""

from __future__ import annotations

import json
import resource
import shutil
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from gpux.system.settings import Settings
from tests.hub import HubServer
from tests.server.running import CLASSIFIER, EMBEDDER, WRITER, Running, serving
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGSTOP and RLIMIT_FSIZE")

MESSAGES = [{"role": "user", "content": "abc"}]
CHAT = {"model": WRITER, "messages": MESSAGES, "max_tokens": 4}
#: Requests to the writer, one for each API, whose answers are whole.
TEXTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": WRITER, "prompt": "abc", "max_tokens": 4},
    "/v1/responses": {"model": WRITER, "input": "abc", "max_output_tokens": 16},
    "/v1/messages": CHAT,
    "/api/chat": {"model": WRITER, "messages": MESSAGES, "stream": False},
    f"/models/{WRITER}": {"inputs": "abc", "parameters": {"max_new_tokens": 4}},
    "/api/huggingface/generate": {"model_id": WRITER, "prompt": "abc", "max_new_tokens": 4},
}


def ready(server: Running) -> list[psutil.Process]:
    """The processes of the models of the start, in their order."""
    register = {"model_id": WRITER, "name": "writer", "model_type": "text-generation"}
    server.post("/api/huggingface/models", register)
    wait_until(lambda: server.get("/readyz").status_code == 200)
    return sorted(psutil.Process(server.process.pid).children(), key=lambda one: one.create_time())


def states(server: Running) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in server.get("/gpux/v1/loaded").json()["models"]}


def pending(server: Running) -> int:
    counts = [one["requests"] for one in states(server).values()]
    return sum(one["running"] + one["waiting"] for one in counts)


def metric(server: Running, name: str, model: str) -> float:
    lines = server.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f'{name}{{model="{model}"'))


def code_of(body: Any) -> str | None:
    """The code of an error, in whatever shape; None where the API has none."""
    error = body["error"]
    found = error.get("code") if isinstance(error, dict) else body.get("code")
    return None if found is None else str(found)


@pytest.fixture
def own_home(filled_home: Path, tmp_path: Path) -> Path:
    """Stored models, and nothing of servers that ran before."""
    ignored = shutil.ignore_patterns("*.log", "*.db*", "server")
    return Path(shutil.copytree(filled_home, tmp_path / "own", symlinks=True, ignore=ignored))


def test_a_full_queue_is_refused_with_the_seconds_to_wait(own_home: Path) -> None:
    with serving(own_home, [WRITER, "--max-queue", "2"]) as server, ThreadPoolExecutor(2) as threads:
        (worker,) = ready(server)
        worker.suspend()  # what is sent to it waits
        try:
            waiting = [threads.submit(server.post, "/v1/chat/completions", CHAT) for _ in range(2)]
            wait_until(lambda: pending(server) == 2)
            streamed = {
                path: {**TEXTS[path], "stream": True} for path in ("/v1/completions", "/v1/messages", "/api/chat")
            }
            for path, body in [*TEXTS.items(), *streamed.items()]:
                answer = server.post(path, body)
                assert answer.status_code == (503 if path.startswith("/api/huggingface") else 429), path
                assert int(answer.headers["retry-after"]) >= 1, path
                assert code_of(answer.json()) in ("busy", None), path
                assert "has 2 requests" in answer.text, path
            openai = server.post("/v1/chat/completions", CHAT)
            assert openai.json()["error"]["type"] == "rate_limit_error"
            assert int(openai.headers["retry-after-ms"]) >= 1000
            assert server.post("/v1/messages", CHAT).json()["error"]["type"] == "rate_limit_error"
        finally:
            worker.resume()
        assert [one.result().status_code for one in waiting] == [200, 200]
        assert metric(server, "gpux_requests_busy_total", WRITER) == 12
        assert server.post("/api/huggingface/generate", TEXTS["/api/huggingface/generate"]).status_code == 200


def test_a_killed_worker_ends_its_requests_and_is_started_again(own_home: Path) -> None:
    """The status says that the server has failed, and not that it is busy: what was sent may have been the reason."""
    embed = {"model": EMBEDDER, "inputs": "a"}
    with serving(own_home, [WRITER, EMBEDDER]) as server, ThreadPoolExecutor(8) as threads:
        workers = ready(server)
        for worker in workers:
            worker.suspend()
        waiting = {path: threads.submit(server.post, path, body) for path, body in {**TEXTS, "/embed": embed}.items()}
        wait_until(lambda: pending(server) == 8)
        for worker in workers:
            worker.kill()
        for path, one in waiting.items():
            answer = one.result()
            assert answer.status_code == (424 if path == "/embed" else 500), path
            assert code_of(answer.json()) in ("worker_died", None), path
            assert "was killed by signal 9" in answer.text, path
            assert "retry-after" not in answer.headers, path
            assert answer.headers.get("x-should-retry") != "false", path
        assert server.post("/v1/chat/completions", CHAT).status_code == 200
        assert server.post("/embed", embed).status_code == 200


def test_a_stream_whose_worker_is_killed_ends_with_an_error(own_home: Path) -> None:
    with serving(own_home, [WRITER]) as server, server.client() as client:
        lines: list[str] = ["data: [DONE]"]
        while "data: [DONE]" in lines:  # the answer was complete before the worker could be stopped
            (worker,) = ready(server)
            body = {**CHAT, "max_tokens": None, "stream": True, "n": 32}
            with client.stream("POST", "/v1/chat/completions", json=body) as stream:
                assert stream.status_code == 200
                left = (line for line in stream.iter_lines() if line)
                lines = [next(left)]
                worker.suspend()
                if pending(server):
                    worker.kill()
                else:
                    worker.resume()
                lines += left
        *_, last = lines
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "worker_died"
        wait_until(lambda: server.get("/readyz").status_code == 200)  # a model of the start comes back by itself
        assert server.post("/v1/chat/completions", CHAT).status_code == 200


def test_a_model_makes_room_for_another_one_within_the_memory_of_the_server(own_home: Path) -> None:
    embed, classify = {"model": EMBEDDER, "input": "a"}, {"inputs": "a"}
    with serving(own_home, [EMBEDDER]) as server:
        ready(server)
        size = int(states(server)[EMBEDDER]["bytes"])
    room = max(size * 3 // 2, 120 << 20)
    with serving(own_home, ["--max-memory", str(room), "--load-timeout", "200ms"]) as server:
        assert server.post("/v1/embeddings", embed).status_code == 200
        assert server.post(f"/models/{CLASSIFIER}", classify).status_code == 200
        assert list(states(server)) == [CLASSIFIER]
        assert metric(server, "gpux_evictions_total", EMBEDDER) == 1
        assert server.post("/gpux/v1/pin", {"model": CLASSIFIER}).status_code == 200
        refused = server.post("/v1/embeddings", embed)
        assert (refused.status_code, refused.json()["error"]["type"]) == (503, "service_unavailable")
        assert code_of(refused.json()) == "overloaded" and int(refused.headers["retry-after"]) >= 1
        assert server.post("/gpux/v1/unpin", {"model": CLASSIFIER}).status_code == 200
        assert server.post("/v1/embeddings", embed).status_code == 200
        assert list(states(server)) == [EMBEDDER]
    with serving(own_home, ["--max-memory", "50MB"]) as server:
        refused = server.post("/v1/embeddings", embed)
        assert (refused.status_code, code_of(refused.json())) == (400, "does_not_fit")
        assert refused.headers.get("retry-after") is None


def test_models_are_not_loaded_again_where_that_is_switched_off(own_home: Path) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = ["--port", str(one.getsockname()[1])]
    with serving(own_home, port) as server:
        assert server.post("/v1/embeddings", {"model": EMBEDDER, "input": "a"}).status_code == 200
    with serving(own_home, [CLASSIFIER, *port, "--no-restore"]) as server:
        ready(server)
        assert list(states(server)) == [CLASSIFIER]
    with serving(own_home, [CLASSIFIER, *port]) as server:  # the record was neither read nor changed
        wait_until(lambda: set(states(server)) == {CLASSIFIER, EMBEDDER})


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Programs that are started in the block can write files of so many bytes, as on a disk that is full then."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_ends_a_pull_with_its_own_status_and_the_pull_goes_on_later(
    hub: HubServer, settings: Settings, tmp_path: Path
) -> None:
    environment = {**settings.to_env(), "GPUX_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "hub")}
    pull = {"model": "tiny/embed", "stream": True}
    with ExitStack() as stack:
        with largest_file(80_000):  # less than the weights
            server = stack.enter_context(serving(tmp_path, ["--allow-pull"], environment=environment))
        ended = json.loads(server.post("/gpux/v1/pull", pull).text.strip().rpartition("data: ")[2])
        assert (ended["status"], ended["error"]["code"]) == ("failed", "disk_full")
        for path, body in {
            "/v1/embeddings": {"model": "tiny/embed", "input": "a"},
            "/models/tiny/embed": {"inputs": "a"},
            "/api/pull": {"model": "tiny/embed", "stream": False},
            "/embed": {"model": "tiny/embed", "inputs": "a"},
        }.items():
            answer = server.post(path, body)
            assert answer.status_code == 507, answer.text
            assert code_of(answer.json()) in ("disk_full", None)
            assert "disk is full" in answer.text and str(tmp_path) not in answer.text
        assert server.get("/gpux/v1/models").json() == {"models": []}
        assert len(server.get("/gpux/v1/jobs").json()["jobs"]) == 5
        assert server.get("/readyz").status_code == 200
        with largest_file(20_000):  # less than the record of a job
            server = stack.enter_context(serving(tmp_path, environment=environment))
        refused = server.post("/gpux/v1/pull", pull)
        assert (refused.status_code, code_of(refused.json())) == (507, "disk_full")
    with serving(tmp_path, ["--allow-pull"], environment=environment) as server:
        assert server.post("/v1/embeddings", {"model": "tiny/embed", "input": "a"}).status_code == 200
