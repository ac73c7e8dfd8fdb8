"""gpux's own API: what is stored, loaded and running, and the commands that change it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.running import CLASSIFIER, EMBEDDER, WRITER, Running, serving
from tests.waiting import wait_until

CHAT = [{"role": "user", "content": "abc"}]


@pytest.fixture(scope="module")
def own(filled_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with a store of its own, which tests may change."""
    home = tmp_path_factory.mktemp("own") / "home"
    shutil.copytree(filled_home, home, ignore=shutil.ignore_patterns("servers", "*.log", "*.db*"))
    with serving(home, ["--offline"]) as running:
        yield running


def loaded(running: Running) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in running.get("/gpux/v1/loaded").json()["models"]}


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


def test_stored_models_are_listed_with_what_they_do(server: Running) -> None:
    found = {one["name"]: one for one in server.get("/gpux/v1/models").json()["models"]}
    assert {WRITER, EMBEDDER, CLASSIFIER} <= set(found)
    assert found[WRITER]["task"] == "text-generation"
    assert found[WRITER]["precision"] == "fp32"
    assert found[WRITER]["bytes"] > 1000
    assert found[WRITER]["evidence"] == "graph proven"


def test_one_model_has_its_proof_and_no_path_of_the_machine(server: Running) -> None:
    answer = server.get(f"/gpux/v1/models/{WRITER}")
    assert answer.json()["proof"]["status"] == "proven"
    assert str(server.home) not in answer.text
    assert server.get("/gpux/v1/models/tests%2Fwriter").json()["name"] == WRITER


def test_a_model_that_is_not_stored_is_404_in_the_shape_of_the_api(server: Running) -> None:
    answer = server.get("/gpux/v1/models/tests/missing")
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error["code"] == "model_not_found"
    assert error["hint"]


def test_the_server_says_what_runs(server: Running) -> None:
    found = server.get("/gpux/v1/server").json()
    assert found["pid"] == server.process.pid
    assert found["state"] == "running"
    assert found["models"]["stored"] >= 5


def test_a_model_is_loaded_pinned_and_unloaded(own: Running) -> None:
    answer = own.post("/gpux/v1/load", {"model": WRITER, "keep_alive": "1h"})
    assert answer.json()["state"] == "loaded"
    assert answer.json()["keep_alive"] == 3600
    assert loaded(own)[WRITER]["bytes"] > 1_000_000
    assert own.post("/gpux/v1/pin", {"model": WRITER}).json()["pinned"]
    assert loaded(own)[WRITER]["expires"] is None
    assert not own.post("/gpux/v1/unpin", {"model": WRITER}).json()["pinned"]
    assert own.post("/gpux/v1/unload", {"model": WRITER}).json() == {"unloaded": [WRITER]}
    assert WRITER not in loaded(own)
    assert own.post("/gpux/v1/unload", {"model": WRITER}).json() == {"unloaded": []}


def test_all_models_are_unloaded_at_once(own: Running) -> None:
    own.post("/gpux/v1/load", {"model": EMBEDDER})
    own.post("/gpux/v1/load", {"model": WRITER, "keep_alive": -1})
    assert loaded(own)[WRITER]["keep_alive"] is None
    assert set(own.post("/gpux/v1/unload", {"all": True}).json()["unloaded"]) >= {EMBEDDER, WRITER}
    assert loaded(own) == {}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("load", {}, "model"),
        ("load", {"model": WRITER, "keep_alive": "soon"}, "keep_alive"),
        ("load", {"model": WRITER, "pinned": True}, "pinned"),
        ("unload", {}, "model"),
        ("unload", {"model": WRITER, "all": True}, "model"),
        ("default", {"model": WRITER}, "model"),
    ],
)
def test_an_invalid_body_names_its_field(server: Running, path: str, body: dict[str, Any], param: str) -> None:
    answer = server.post(f"/gpux/v1/{path}", body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_events_say_what_happens_to_models(own: Running) -> None:
    with own.client() as client, client.stream("GET", "/gpux/v1/events") as answer:
        lines = (line for line in answer.iter_lines() if line)
        assert json.loads(next(lines).removeprefix("data: "))["kind"] == "listening"
        own.post("/gpux/v1/load", {"model": CLASSIFIER})
        own.post("/gpux/v1/unload", {"model": CLASSIFIER})
        kinds = []
        while kinds[-1:] != ["unloaded"]:
            found = json.loads(next(lines).removeprefix("data: "))
            assert found["model"] == CLASSIFIER
            kinds.append(found["kind"])
        assert [kind for kind in kinds if kind in ("loading", "loaded", "unloading")] == [
            "loading",
            "loaded",
            "unloading",
        ]


def test_files_are_checked_in_a_job_whose_events_end_with_its_status(own: Running) -> None:
    found = events(own.post("/gpux/v1/verify", {"model": CLASSIFIER, "stream": True}).text)
    assert found[0]["kind"] == "job"
    assert (found[-1]["kind"], found[-1]["status"]) == ("ended", "finished")
    id = found[0]["job"]
    assert id in {job["id"] for job in own.get("/gpux/v1/jobs").json()["jobs"]}
    job = own.get(f"/gpux/v1/jobs/{id}")
    assert job.json()["status"] == "finished"
    assert str(own.home) not in job.text
    assert events(own.get(f"/gpux/v1/jobs/{id}/events").text)[-1]["status"] == "finished"
    with own.client() as client:
        assert client.delete(f"/gpux/v1/jobs/{id}").json() == {"removed": id}
    assert own.get(f"/gpux/v1/jobs/{id}").status_code == 404


def test_a_pull_of_an_offline_server_is_refused(own: Running) -> None:
    answer = own.post("/gpux/v1/pull", {"model": "org/name"})
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "offline"


@pytest.mark.parametrize("name", ["./folder", "/etc", "http://localhost/org/name", "--trust-remote-code"])
def test_a_pull_of_anything_but_a_model_of_the_hub_is_refused(own: Running, name: str) -> None:
    assert own.post("/gpux/v1/pull", {"model": name}).status_code in (400, 403)


def test_disk_usage_has_no_paths(server: Running) -> None:
    answer = server.get("/gpux/v1/disk")
    assert answer.json()["store"] > 1000
    assert str(server.home) not in answer.text


def test_a_model_is_removed_after_it_is_unloaded(own: Running) -> None:
    own.post("/gpux/v1/load", {"model": EMBEDDER})
    with own.client() as client:
        answer = client.delete(f"/gpux/v1/models/{EMBEDDER}")
    assert answer.json()["freed"] > 1000
    assert EMBEDDER not in loaded(own)
    assert own.get(f"/gpux/v1/models/{EMBEDDER}").status_code == 404


def test_shutdown_ends_the_server(tmp_path: Path) -> None:
    with serving(tmp_path) as running:
        assert running.post("/gpux/v1/shutdown").json() == {"stopping": True, "pid": running.process.pid}
        assert running.process.wait() == 0
        wait_until(lambda: not (tmp_path / "servers" / f"{running.process.pid}.json").exists())
