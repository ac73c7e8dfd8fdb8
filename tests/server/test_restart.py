"""The loaded models of a server come back after a crash, and two servers share a store."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest

from gpux.server.state import Kept, StateFile
from tests.server.running import CLASSIFIER, EMBEDDER, Running, serving
from tests.waiting import wait_until


def free_port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


def loaded(running: Running) -> list[str]:
    return [one["model"] for one in running.get("/health").json()["models"]]


def embed(running: Running) -> list[Any]:
    body = {"model": EMBEDDER, "input": "a", "encoding_format": "float"}
    vector: list[Any] = running.post("/v1/embeddings", body).json()["data"][0]["embedding"]
    return vector


def test_after_kill_9_the_loaded_models_come_back_beside_another_server_on_the_store(
    server: Running, filled_home: Path
) -> None:
    port = free_port()
    state = filled_home / "server" / f"{port}.json"
    with serving(filled_home, ["--port", port]) as first:
        vector = embed(first)
        workers = psutil.Process(first.process.pid).children()
        assert workers
        first.process.kill()
        first.process.wait()
    wait_until(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in workers))
    assert [one["name"] for one in json.loads(state.read_bytes())["models"]] == [EMBEDDER]
    with serving(filled_home, [CLASSIFIER, "--port", port]) as second:
        wait_until(lambda: second.get("/readyz").status_code == 200)
        wait_until(lambda: sorted(loaded(second)) == [CLASSIFIER, EMBEDDER])
        assert embed(second) == embed(server) == vector
    shutil.rmtree(filled_home / "server")


def test_a_record_of_loaded_models_is_read_back_unless_it_is_damaged(tmp_path: Path) -> None:
    models = [Kept("/store/a", "org/a"), Kept("/store/b", "org/b:int4", 30.0, pinned=True)]
    file = StateFile(tmp_path, 5000)
    assert file.read() == []
    file.write(models)
    assert file.read() == models
    file.close()
    (tmp_path / "server/5000.json").write_text("{")
    assert StateFile(tmp_path, 5000).read() == []


def test_a_second_server_at_a_port_leaves_the_record_to_the_first(tmp_path: Path) -> None:
    first, second, any_port = StateFile(tmp_path, 5000), StateFile(tmp_path, 5000), StateFile(tmp_path, 0)
    first.write([Kept("/store/a", "org/a")])
    second.write([])
    any_port.write([])
    assert first.read() and second.read() == [] and any_port.read() == []
    first.close()


@pytest.mark.parametrize("text", ['{"models": [{"path": 1, "name": "a"}]}', "[]", ""])
def test_a_record_of_another_shape_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "server").mkdir()
    (tmp_path / "server/5000.json").write_text(text)
    assert StateFile(tmp_path, 5000).read() == []
