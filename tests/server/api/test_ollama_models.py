"""Lists and descriptions of models, vectors, pulls, and operations that gpux does not have, of Ollama's API."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpux import jobs
from gpux.system.settings import Settings
from tests.hub import HubServer
from tests.hub.faults import Fault
from tests.pipelines.reciter import TEMPLATE
from tests.server.running import CLASSIFIER, EMBEDDER, RECITER, WRITER, Running, serving


def test_the_stored_models_have_names_with_tags(server: Running) -> None:
    found = {one["name"]: one for one in server.get("/api/tags").json()["models"]}
    assert {f"{WRITER}:fp32", f"{EMBEDDER}:fp32"} <= set(found)
    assert f"{CLASSIFIER}:fp32" not in found
    assert all(name == one["model"] for name, one in found.items())
    assert len({one["digest"] for one in found.values()}) == len(found)
    one = found[f"{WRITER}:fp32"]
    assert one["size"] > 1000
    assert one["details"]["family"] == "llama"
    assert one["details"]["quantization_level"] == "FP32"
    with server.client() as client:
        head = client.head("/api/tags")
        assert (head.status_code, head.content) == (200, b"")
        assert client.head("/").status_code == 200


def test_a_listed_name_is_one_that_requests_can_use(server: Running) -> None:
    for one in server.get("/api/tags").json()["models"]:
        shown = server.post("/api/show", {"model": one["name"]}).json()
        assert shown["details"] == one["details"]


def test_a_loaded_model_has_its_listed_name(server: Running) -> None:
    server.post("/api/generate", {"model": WRITER})
    [one] = [one for one in server.get("/api/ps").json()["models"] if one["name"] == f"{WRITER}:fp32"]
    assert one["model"] == one["name"]
    assert (one["context_length"], one["size_vram"]) == (64, 0)
    assert one["size"] > 1_000_000


@pytest.mark.parametrize("body", [{"model": WRITER}, {"name": f"{WRITER}:latest"}, {"model": WRITER, "name": WRITER}])
def test_a_model_is_described(server: Running, body: dict[str, Any]) -> None:
    found = server.post("/api/show", body).json()
    assert found["model_info"]["llama.context_length"] == 64
    assert found["model_info"]["general.architecture"] == "llama"
    assert found["capabilities"] == ["completion"]
    assert all(len(line.split()) == 2 for line in found["parameters"].splitlines())
    assert str(server.home) not in json.dumps(found)


def test_a_model_of_vectors_says_so(server: Running) -> None:
    found = server.post("/api/show", {"model": EMBEDDER}).json()
    assert found["capabilities"] == ["embedding"]
    assert found["model_info"]["bert.embedding_length"] == 32


def test_what_a_chat_template_can_do_is_shown(server: Running) -> None:
    found = server.post("/api/show", {"model": RECITER}).json()
    assert found["capabilities"] == ["completion", "tools", "thinking"]
    assert found["template"] == TEMPLATE
    assert server.post("/api/show", {"model": CLASSIFIER}).json()["capabilities"] == []


def test_texts_become_vectors_of_length_one(server: Running) -> None:
    found = server.post("/api/embed", {"model": EMBEDDER, "input": ["the cat", "a"]}).json()
    assert (found["model"], [len(vector) for vector in found["embeddings"]]) == (EMBEDDER, [32, 32])
    for vector in found["embeddings"]:
        assert sum(value**2 for value in vector) == pytest.approx(1, abs=1e-5)
    assert found["prompt_eval_count"] > 2
    assert found["total_duration"] >= found["load_duration"] > 0
    one = server.post("/api/embed", {"model": EMBEDDER, "input": "the cat", "dimensions": 8}).json()["embeddings"]
    assert [len(vector) for vector in one] == [8]
    old = server.post("/api/embeddings", {"model": EMBEDDER, "prompt": "the cat"}).json()["embedding"]
    assert len(old) == 32


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"input": [1, 2]}, "input"),
        ({"input": "a", "dimensions": 33}, "32"),
        ({"input": "a " * 99, "truncate": False}, "truncate"),
        ({"input": "a", "model": WRITER}, WRITER),
        ({"input": "a", "options": {"heat": 1}}, "heat"),
    ],
)
def test_an_invalid_request_for_vectors_is_refused(server: Running, body: dict[str, Any], words: str) -> None:
    answer = server.post("/api/embed", {"model": EMBEDDER, **body})
    assert answer.status_code == 400
    assert words in answer.json()["error"]


def test_a_text_that_is_too_long_is_cut(server: Running) -> None:
    cut = server.post("/api/embed", {"model": EMBEDDER, "input": "a " * 99})
    assert cut.status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/create"),
        ("POST", "/api/push"),
        ("POST", "/api/copy"),
        ("POST", "/api/blobs/sha256:00"),
        ("HEAD", "/api/blobs/sha256:00"),
    ],
)
def test_what_gpux_does_not_have_is_501(server: Running, method: str, path: str) -> None:
    with server.client() as client:
        answer = client.request(method, path, json={"model": "a"})
    assert answer.status_code == 501
    if method != "HEAD":
        assert "not supported" in answer.json()["error"]


def test_the_version_is_one_that_clients_can_compare(server: Running) -> None:
    assert [part.isdecimal() for part in server.get("/api/version").json()["version"].split(".")] == [True] * 3


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"model": "a/b", "name": "a/c"}, 400),
        ({"model": "a/b", "insecure": True}, 400),
        ({"model": "./folder"}, 403),
        ({"model": "a/b", "unheard_of": 1}, 400),
    ],
)
def test_an_invalid_pull_is_refused(server: Running, body: dict[str, Any], status: int) -> None:
    answer = server.post("/api/pull", body)
    assert (answer.status_code, set(answer.json())) == (status, {"error"})


def test_a_pull_of_a_server_that_stops_ends_with_an_error_and_continues(
    hub: HubServer, settings: Settings, tmp_path: Path
) -> None:
    environment = {**settings.to_env(), "GPUX_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "hub")}
    hub.add_fault(Fault("hang", path="tiny/embed", times=None))
    home = replace(settings, home=tmp_path)
    with serving(tmp_path, environment=environment) as running, running.client() as client:
        try:
            with client.stream("POST", "/api/pull", json={"model": "tiny/embed"}) as answer:
                lines = answer.iter_lines()
                assert json.loads(next(lines)) == {"status": "pulling manifest"}
                running.process.send_signal(signal.SIGTERM)
                last = [json.loads(line) for line in lines][-1]
            assert set(last) == {"error"} and "the server is stopping" in last["error"]
            running.process.wait()
            assert [one.running for one in jobs.jobs(home)] == [True]
        finally:
            for one in jobs.jobs(home):
                jobs.cancel(one)


def test_a_pull_writes_its_progress_and_ends_with_success_or_an_error(
    hub: HubServer, settings: Settings, tmp_path: Path
) -> None:
    environment = {**settings.to_env(), "GPUX_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "hub")}
    with serving(tmp_path, environment=environment) as running:
        answer = running.post("/api/pull", {"model": "tiny/embed:latest"})
        assert answer.headers["content-type"] == "application/x-ndjson"
        found = [json.loads(line) for line in answer.text.splitlines()]
        assert (found[0], found[-1]) == ({"status": "pulling manifest"}, {"status": "success"})
        counts = [one for one in found if "total" in one]
        assert counts
        assert all(one["digest"] and 0 <= one["completed"] <= one["total"] for one in counts)
        assert [one["name"] for one in running.get("/api/tags").json()["models"]] == ["tiny/embed:fp32"]
        missing = running.post("/api/pull", {"model": "no/such-model", "stream": False})
        assert (missing.status_code, set(missing.json())) == (404, {"error"})
