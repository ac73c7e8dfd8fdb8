"""Models that `gpux rm` removes while a server has them loaded."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpux.errors import ModelNotFoundError
from gpux.server.models import Models
from gpux.server.records import servers, servers_with
from gpux.store import Store
from gpux.system.settings import Settings
from tests.commands import finished
from tests.server.running import EMBEDDER, RECITER, WATCHFUL, WRITER, Running, serving
from tests.server.test_models import play
from tests.waiting import until, wait_until

MESSAGES = [{"role": "user", "content": "abc"}]
#: Path, body, and where the error of the API has its message.
REQUESTS: tuple[tuple[str, dict[str, Any], tuple[str, ...]], ...] = (
    ("/v1/embeddings", {"model": EMBEDDER, "input": "a"}, ("error", "message")),
    ("/v1/chat/completions", {"model": WRITER, "messages": MESSAGES, "max_tokens": 2}, ("error", "message")),
    ("/v1/chat/completions", {"model": WRITER, "messages": MESSAGES, "stream": True}, ("error", "message")),
    ("/v1/responses", {"model": WRITER, "input": "abc"}, ("error", "message")),
    ("/v1/messages", {"model": WRITER, "messages": MESSAGES, "max_tokens": 2}, ("error", "message")),
    ("/api/chat", {"model": WRITER, "messages": MESSAGES}, ("error",)),
    ("/api/embed", {"model": EMBEDDER, "input": "a"}, ("error",)),
    (f"/models/{EMBEDDER}", {"inputs": "a"}, ("error",)),
    (f"/models/{WRITER}", {"inputs": "a"}, ("error",)),
)


@pytest.fixture
def home(filled_home: Path, tmp_path: Path) -> Path:
    """A home folder whose models are removed."""
    found = tmp_path / "home"
    shutil.copytree(filled_home, found, ignore=shutil.ignore_patterns("*.log", "*.db*", "server", "servers"))
    return found


@pytest.fixture
def own(home: Path) -> Iterator[Running]:
    with serving(home, program=WATCHFUL) as running:
        yield running


def rm(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = finished("rm", *arguments, environment={"GPUX_HOME": str(home), "HF_HOME": str(home / "hf")})
    assert done.returncode == 0, done.stderr
    return done


def loaded(server: Running) -> list[str]:
    return [one["name"] for one in server.get("/gpux/v1/loaded").json()["models"]]


def test_rm_says_which_server_has_the_model_loaded(own: Running) -> None:
    said = f"is loaded by the server at {own.url}"
    assert said not in rm(own.home, EMBEDDER, "--dry-run").stderr
    assert own.post("/gpux/v1/load", {"model": EMBEDDER}).status_code == 200
    assert said in rm(own.home, EMBEDDER, "--dry-run").stderr
    [entry] = json.loads(rm(own.home, EMBEDDER, WRITER, "--dry-run", "--json").stdout)["loaded"]
    assert entry["url"] == own.url and EMBEDDER in entry["title"]
    assert said in rm(own.home, EMBEDDER, "--yes").stderr
    wait_until(lambda: loaded(own) == [])
    assert json.loads(rm(own.home, WRITER, "--yes", "--json").stdout)["loaded"] == []
    assert own.post("/gpux/v1/load", {"model": EMBEDDER}).status_code == 404


def test_a_request_for_a_removed_model_is_404_in_the_shape_of_its_api(own: Running) -> None:
    for model in (EMBEDDER, WRITER):
        assert own.post("/gpux/v1/pin", {"model": model}).status_code == 200
    rm(own.home, EMBEDDER, WRITER, "--yes")
    for path, body, place in REQUESTS:  # while the server has both loaded, or has unloaded them
        answer = own.post(path, body)
        assert answer.status_code == 404, (path, answer.text)
        message = answer.json()
        for key in place:
            message = message[key]
        assert body.get("model", path.removeprefix("/models/")) in message, (path, message)
    wait_until(lambda: loaded(own) == [])


def test_an_answer_that_runs_is_not_cut_by_a_removal(own: Running) -> None:
    body = {"model": RECITER, "messages": MESSAGES, "max_tokens": 3000, "stream": True}
    lines: list[str] = []
    with own.client() as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
        for line in answer.iter_lines():
            if len(lines) == 5:
                rm(own.home, RECITER, "--yes")
            lines.append(line)
    assert "data: [DONE]" in lines
    assert own.post("/v1/chat/completions", {**body, "stream": False}).status_code == 404
    wait_until(lambda: loaded(own) == [])


def test_the_record_of_a_server_has_what_it_loads_and_no_longer_what_it_unloaded(own: Running) -> None:
    settings = Settings.from_env({"GPUX_HOME": str(own.home), "HF_HOME": str(own.home / "hf")})
    folder = next(one.path for one in Store(settings.store).models() if one.id == EMBEDDER)
    assert [one.url for one in servers(settings)] == [own.url] and servers_with(folder, settings) == []
    own.post("/v1/embeddings", {"model": EMBEDDER, "input": "a"})
    assert [one.url for one in servers_with(folder, settings)] == [own.url]
    own.post("/gpux/v1/unload", {"model": EMBEDDER})
    assert servers_with(folder, settings) == []


@pytest.mark.parametrize("when", ["loading", "started"])
def test_a_model_that_is_removed_while_it_loads_is_not_found(home: Path, when: str) -> None:
    async def scenario(models: Models) -> None:
        folder = models.find(EMBEDDER).path

        def remove(folders: tuple[Path, ...]) -> None:
            if folder in folders and folder.exists():
                folder.rename(home / "elsewhere")

        if when == "loading":
            models.on_open = remove
        request = asyncio.get_running_loop().create_task(models.load(EMBEDDER))
        if when == "started":  # its process, which takes longer until it reads the first file
            await until(lambda: models.state(EMBEDDER).memory_bytes)
            remove((folder,))
        with pytest.raises(ModelNotFoundError, match="was removed from the store"):
            await request
        with pytest.raises(ModelNotFoundError, match="not stored"):
            await models.load(EMBEDDER)
        assert models.states() == []  # and the health of the server is not degraded for ever

    play(home, scenario)


def test_a_removed_model_is_unloaded_on_request(home: Path) -> None:
    async def scenario(models: Models) -> None:
        for id in (EMBEDDER, WRITER, RECITER):
            await models.pin(id)
        for id in (EMBEDDER, WRITER):
            models.find(id).path.rename(home / id.replace("/", "-"))
        assert await models.unload(EMBEDDER)
        found = await models.unload_all()
        assert set(found) in ({RECITER}, {RECITER, WRITER})  # the server may have unloaded the other one already
        assert models.loaded() == []
        with pytest.raises(ModelNotFoundError, match="not stored"):
            await models.unload(EMBEDDER)

    play(home, scenario)
